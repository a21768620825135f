"""The MLflow store: the connection to it, and messages for its failures."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import PipelineError, root_cause
from pipeline.tracking.address import (
    displayed_uri,
    is_remote,
    portable_uri,
    repository_root,
    require_usable_address,
    sqlite_file,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["connect", "displayed_uri", "explain_store_errors", "is_remote", "repository_root", "tracking_uri"]

DEFAULT_EXPERIMENT = "cifar10"


def connect() -> "MlflowClient":
    """Connect MLflow's functions to the store and the experiment; a client of it. `PipelineError` if that fails."""
    require_usable_address()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads these when it is imported
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default of 7 takes minutes to fail
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs the errors that it raises
    with explain_store_errors():
        address = portable_uri()
        mlflow.set_tracking_uri(tracking_uri())
        os.environ["MLFLOW_TRACKING_URI"] = address  # MLflow has set it; a relative path is not for other processes
        mlflow.set_system_metrics_sampling_interval(2)  # seconds; the default of 10 misses short trainings
        _set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT)
    return mlflow.MlflowClient()


def _set_experiment(name: str) -> None:
    """Make `name` the active experiment; without a server its artifacts go to mlartifacts/ beside the database."""
    import mlflow

    database = sqlite_file()
    folder = database.parent if database else repository_root()
    with _file_lock(database):  # two processes must not both create the tables
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, None if is_remote() else (folder / "mlartifacts").as_uri())
        mlflow.set_experiment(name)


def _file_lock(database: Path | None) -> AbstractContextManager[object]:
    if database is None:
        return nullcontext()
    from filelock import FileLock

    return FileLock(f"{database}.lock")


def store_errors() -> tuple[type[Exception], ...]:
    """The exceptions that MLflow raises if its store fails."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def explain_store_errors() -> Iterator[None]:
    """Turn a failure of the store inside the block into a `PipelineError` that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise  # a local file, not the store
    except store_errors() as error:
        raise PipelineError(
            f"cannot record in the MLflow store {displayed_uri()}: {root_cause(error)}. "
            "Start that server or make the path writable, or unset MLFLOW_TRACKING_URI to record in mlflow.db "
            "in the repository's root; then run the same command again."
        ) from None
