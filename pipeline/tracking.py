"""MLflow: where runs are recorded, and one run per pipeline execution.

Train opens a run and tags it with the model file's SHA-256; evaluate and export find it by that
tag, so no run id enters a file that DVC hashes.
"""

import logging
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, innermost

DEFAULT_EXPERIMENT = "cifar10"
MODEL_TAG = "model_sha256"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI where it is set, else mlflow.db in the repository's root.

    `dvc exp run --temp` and `--queue` work in a temporary folder; DVC_ROOT still names the root,
    and a relative sqlite file is looked for there.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    relative = re.fullmatch(r"sqlite:///(?!file:)([^/].*)", uri)
    return f"sqlite:///{root() / relative[1]}" if relative else uri


def connect() -> Any:
    """The mlflow module, connected to the store and the experiment, which is made where it is absent.

    Raises:
        PipelineError: the store cannot be reached or read.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads these at import
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's 7 take minutes to say no
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it raises
    with explained():
        mlflow.set_tracking_uri(tracking_uri())
        mlflow.set_system_metrics_sampling_interval(2)  # seconds; the default of 10 misses short trainings
        _set_experiment(mlflow, os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT)
    return mlflow


def _set_experiment(mlflow: Any, name: str) -> None:
    """Make `name` the experiment of what follows; artefacts of a store in files lie in mlartifacts/ beside it."""
    database = _sqlite_file()
    folder = database.parent if database else root()
    remote = tracking_uri().startswith(("http://", "https://", "databricks"))  # there the server decides
    with _file_lock(database):  # two processes must not both make the tables
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, None if remote else (folder / "mlartifacts").as_uri())
        mlflow.set_experiment(name)


def _file_lock(database: Path | None) -> Any:
    if database is None:
        return nullcontext()
    from filelock import FileLock

    return FileLock(f"{database}.lock")


def _sqlite_file() -> Path | None:
    """The file of a sqlite store, also of one written as `sqlite:///file:...?mode=ro&uri=true`."""
    found = re.match(r"sqlite:///(?:file:)?([^?]+)", tracking_uri())
    return Path(found[1]).resolve() if found else None


def root() -> Path:
    """The repository's root, from a temporary folder of `dvc exp run` too."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def _tracking_errors() -> tuple[type[Exception], ...]:
    """What MLflow raises where its store fails."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def explained() -> Iterator[None]:
    """Turn a failure of the store within the block into one message that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise  # a local file, not the store
    except _tracking_errors() as error:
        raise PipelineError(
            f"cannot record in the MLflow store {shown_uri()}: {innermost(error)}. "
            "Start that server or permit writing there, or unset MLFLOW_TRACKING_URI to record in mlflow.db "
            "in the repository's root; then run the same command again."
        ) from None


def shown_uri() -> str:
    """The store's address without a password."""
    return re.sub(r"//[^@/]*@", "//***@", tracking_uri())


class Recorder:
    """Calls MLflow; once the store has failed, keeps the calls and makes them at the end.

    A training must not be lost because its tracking server died.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], Any]] = deque()
        self._failed = False

    def __call__(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._waiting.append(partial(call, *args, **kwargs))
        if not self._failed:
            self.flush()

    def flush(self) -> None:
        """Make the calls that wait, in order; the first failure warns."""
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except _tracking_errors() as error:
            if not self._failed:
                self._failed = True
                _warn(f"the MLflow store {shown_uri()} failed: {innermost(error)}. Training goes on")

    def finish(self) -> None:
        """Make the calls that wait for the last time."""
        self.flush()
        if self._waiting:
            _warn("the MLflow store is still gone; this run stays incomplete, and evaluate opens another")


def _warn(message: str) -> None:
    print(f"train: warning: {message}.", file=sys.stderr)


@contextmanager
def training_run(tags: dict[str, str], run_id: str | None = None) -> Iterator[tuple[Any, Recorder]]:
    """A new run with system metrics, or the one of `run_id` where the store has it, FINISHED or FAILED as the block ends.

    Yields:
        The mlflow module, and a recorder for calls to it that may fail.

    Raises:
        PipelineError: the store cannot be written; nothing of the block has run then.
    """
    mlflow = connect()
    with explained():
        if run_id and not mlflow.search_runs(filter_string=f"attributes.run_id = '{run_id}'", output_format="list"):
            run_id = None
        name = os.environ.get("DVC_EXP_NAME")
        mlflow.start_run(run_id, run_name=name, tags=tags, log_system_metrics=True)
    recorder = Recorder()
    with _ends_run(mlflow):
        yield mlflow, recorder
        recorder.finish()


@contextmanager
def run_of_model(model_sha256: str, restore: Callable[[Any], None]) -> Iterator[Any]:
    """The latest run with that model, FINISHED or FAILED as the block ends.

    Where there is none (the model comes from DVC's cache, or the store was lost in training), a
    new run is opened, and `restore(mlflow)` fills it with what was kept locally.

    Yields:
        The mlflow module; the run is its active run.
    """
    mlflow = connect()
    with explained():
        found = mlflow.search_runs(
            filter_string=f"tags.{MODEL_TAG} = '{model_sha256}'",
            order_by=["start_time DESC"],
            max_results=1,
            output_format="list",
        )
        mlflow.start_run(run_id=found[0].info.run_id if found else None)
    with _ends_run(mlflow):
        if not found:
            with explained():
                mlflow.set_tag(
                    "mlflow.note.content",
                    "Opened after training: its own run is lost, or the model comes from DVC's cache.",
                )
                restore(mlflow)
                mlflow.set_tag(MODEL_TAG, model_sha256)
        yield mlflow


@contextmanager
def _ends_run(mlflow: Any) -> Iterator[None]:
    """End the active run as the block ends; a store that has gone by then is no reason to fail."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            mlflow.end_run(status)
        except _tracking_errors():
            pass
