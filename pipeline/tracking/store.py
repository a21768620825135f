"""The connection to the MLflow store and to the experiment in it."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import PipelineError, printable
from pipeline.tracking.address import (
    displayed_uri,
    is_remote,
    portable_uri,
    require_usable_address,
    sqlite_file,
    tracking_uri,
)
from pipeline.tracking.store_errors import explain_store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


DEFAULT_EXPERIMENT = "cifar10"
DEFAULTS = {  # MLflow reads the first one when it is imported
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default of 7 takes minutes to fail
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
IGNORED = (  # they change where something is recorded, or what; docs/pipeline.md, Teams
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_RUN_CONTEXT",
    "MLFLOW_ACTIVE_MODEL_ID",
    "_MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_WORKSPACE_STORE_URI",
    "MLFLOW_ALLOW_FILE_STORE",
    "MLFLOW_ENABLE_ASYNC_LOGGING",
    "MLFLOW_TRUNCATE_LONG_VALUES",
    "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL",
    "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING",
    "MLFLOW_SYSTEM_METRICS_NODE_ID",
    "MLFLOW_LOCK_MODEL_DEPENDENCIES",
    "MLFLOW_LOG_MODEL_COMPRESSION",
    "MLFLOW_UV_AUTO_DETECT",
    "MLFLOW_LOG_UV_FILES",
    "MLFLOW_SQLALCHEMYSTORE_ECHO",
)


def connect() -> "MlflowClient":
    """Connect MLflow's functions to the store and the experiment; a client of it. `PipelineError` if that fails."""
    require_usable_address()
    _set_environment()
    import mlflow

    from pipeline.tracking.context import hide_credentials_in_context

    hide_credentials_in_context()
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs the errors that it raises
    with explain_store_errors(), _file_lock(sqlite_file()):  # only one process makes the tables and the experiment
        if file := sqlite_file():
            from pipeline.tracking.database import prepare_database

            prepare_database(file)
        address = portable_uri()
        mlflow.set_tracking_uri(tracking_uri())
        os.environ["MLFLOW_TRACKING_URI"] = address  # MLflow has set it; a relative path is not for other processes
        mlflow.set_system_metrics_sampling_interval(2)  # seconds; the default of 10 misses short trainings
        _set_experiment(_experiment_name())
    return mlflow.MlflowClient()


@explain_store_errors()
def experiment_id(client: "MlflowClient") -> str:
    """The id of the experiment that `connect` has set; `PipelineError` if it was deleted since then."""
    if experiment := client.get_experiment_by_name(_experiment_name()):
        return experiment.experiment_id
    raise PipelineError(
        f"the experiment {printable(_experiment_name(), 100)} of {displayed_uri()} was deleted just now. Run the same "
        "command again: it makes a new one."
    )


def _experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def _set_environment() -> None:
    """Set aside the variables that would change what is recorded where."""
    for name in IGNORED:
        os.environ.pop(name, None)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if is_remote() and displayed_uri() != tracking_uri():  # MLflow prints links to runs with user and password
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def _set_experiment(name: str) -> None:
    """Make `name` the active experiment; without a server its artifacts go to mlartifacts/ beside the database."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from pipeline.tracking.database import ARTIFACTS

    file = sqlite_file()
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        try:
            mlflow.create_experiment(name, (file.parent / ARTIFACTS).as_uri() if file else None)
        except MlflowException:
            if mlflow.get_experiment_by_name(name) is None:  # no other client of the server has created it
                raise
    elif experiment.lifecycle_stage != "active":
        raise PipelineError(
            f"the experiment {printable(name, 100)} of {displayed_uri()} is deleted. Run `.venv/bin/python -m mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another "
            "name."
        )
    mlflow.set_experiment(name)


def _file_lock(database: Path | None) -> AbstractContextManager[object]:
    if database is None:
        return nullcontext()
    from filelock import FileLock

    return FileLock(f"{database}.lock")
