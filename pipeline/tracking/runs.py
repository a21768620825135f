"""One MLflow run per pipeline execution.

Train opens a run and tags it with the SHA-256 of the model file. Evaluate and export find it by
that tag, so files that DVC hashes contain no run id.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pipeline.tracking.address import displayed_uri
from pipeline.tracking.store import connect
from pipeline.tracking.store_errors import cause_of, explain_store_errors, store_errors

if TYPE_CHECKING:
    from mlflow.entities import Run

MODEL_TAG = "model_sha256"


class Recorder:
    """Calls MLflow. If the store fails, training goes on: the remaining calls are kept and made at the end."""

    def __init__(self, run_id: str, command: str = "train") -> None:
        self.run_id, self._command = run_id, command
        self._waiting: deque[Callable[[], object]] = deque()
        self._failed = False

    def __call__(self, call: Callable[..., object], *args: object, **kwargs: object) -> None:
        self._waiting.append(partial(call, *args, **kwargs))
        if not self._failed:
            self.flush()

    def flush(self) -> None:
        """Make the waiting calls in order; the first failure prints a warning."""
        try:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
        except store_errors() as error:
            if not self._failed:
                self._failed = True
                self._warn(f"the MLflow store {displayed_uri()} failed: {cause_of(error)}. Training continues")

    def finish(self) -> None:
        """Make the waiting calls for the last time."""
        self.flush()
        if self._waiting:
            self._warn("the MLflow store is still not available; this run stays incomplete, and evaluate opens another")

    def _warn(self, message: str) -> None:
        print(f"{self._command}: warning: {message}.", file=sys.stderr)


@contextmanager
def training_run(tags: dict[str, str], run_id: str | None = None) -> Iterator[Recorder]:
    """A new active run with system metrics, or the run `run_id` if the store has it; yields a recorder of MLflow calls.

    The run ends as FINISHED or FAILED. `PipelineError` if the store cannot be written; the block does not start then.
    """
    connect()
    import mlflow

    with explain_store_errors():
        if run_id and not mlflow.search_runs(filter_string=f"attributes.run_id = '{run_id}'", output_format="list"):
            run_id = None
        name = os.environ.get("DVC_EXP_NAME")
        run = mlflow.start_run(run_id, run_name=name, tags=tags, log_system_metrics=True)
    recorder = Recorder(run.info.run_id)
    with _ends_run():
        yield recorder
        recorder.finish()


def unfinished_run(tag: str, value: str) -> str | None:
    """The id of the latest run with that tag, unless it is FINISHED; `PipelineError` if the store cannot be read."""
    connect()
    found = _latest_run(f"tags.`{tag}` = '{value}' and attributes.status != 'FINISHED'")
    return found.info.run_id if found else None


def is_recorded(tag: str, value: str) -> bool:
    """Whether the store has a FINISHED run with that tag; `PipelineError` if it cannot be read."""
    return _latest_run(f"tags.`{tag}` = '{value}' and attributes.status = 'FINISHED'") is not None


def _latest_run(query: str) -> "Run | None":
    import mlflow

    with explain_store_errors():
        found = mlflow.search_runs(
            filter_string=query, order_by=["start_time DESC"], max_results=1, output_format="list"
        )
    return found[0] if found else None


@contextmanager
def run_with_model(model_sha256: str, restore: Callable[[], None]) -> Iterator[None]:
    """Make the latest run with that model the active run; it ends as FINISHED or FAILED with the block.

    If there is none (model from DVC's cache, store failed in training), `restore()` fills a new run.
    """
    connect()
    import mlflow

    found = _latest_run(f"tags.{MODEL_TAG} = '{model_sha256}'")
    with explain_store_errors():
        mlflow.start_run(run_id=found.info.run_id if found else None)
    with _ends_run():
        if not found:
            with explain_store_errors():
                mlflow.set_tag(
                    "mlflow.note.content",
                    "Opened after training: the training's own run is lost, or the model comes from DVC's cache.",
                )
                restore()
                mlflow.set_tag(MODEL_TAG, model_sha256)
        yield


@contextmanager
def _ends_run() -> Iterator[None]:
    """End the active run with the block; a store that has failed by then is not an error."""
    import mlflow

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
        except store_errors():
            pass
