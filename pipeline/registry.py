"""The Model Registry: which run competes, which version is champion, and what was decided about each version.

A decision is a set of tags on the model version, all beginning with `decision`.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.tracking import shown_uri

REGISTERED_NAME = "cifar10-classifier"
ALIAS = "champion"
ONNX_FILE, PER_CLASS, PICTURES = "model.onnx", "per_class.csv", "pictures"  # artefacts of a run that competes
PROMOTED, KEPT, ROLLED_BACK = "promoted", "kept-champion", "rolled-back"  # decisions


def competing_run(mlflow: Any, data: dict[str, str]) -> Any:
    """The finished run on this data with proven parity and the highest validation accuracy; of equals, the first.

    Raises:
        PipelineError: there is none.
    """
    conditions = ["attributes.status = 'FINISHED'", "tags.parity_passed = 'true'"]
    conditions += [f"tags.{name} = '{value}'" for name, value in data.items()]
    runs = mlflow.search_runs(
        filter_string=" and ".join(conditions),
        order_by=["metrics.best_validation_accuracy DESC", "start_time ASC"],
        output_format="list",
    )
    for run in runs:
        files = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        if {ONNX_FILE, PER_CLASS, PICTURES} <= files and "best_validation_accuracy" in run.data.metrics:
            return run
    raise PipelineError(
        f"there is no finished run with an exported model on the current data (archive {data['archive_sha256'][:8]}) "
        f"in {shown_uri()}. Run `make repro`, or, if the results are there and this store has not seen them, "
        "`dvc repro --force --single-item evaluate export`; then `make export`."
    )


def current_champion(mlflow: Any) -> Any | None:
    """The model version with the alias, or None."""
    client = mlflow.MlflowClient()
    found = client.search_registered_models(f"name = '{REGISTERED_NAME}'")
    version = found[0].aliases.get(ALIAS) if found else None
    return client.get_model_version(REGISTERED_NAME, version) if version else None


def same_data(version: Any, data: dict[str, str]) -> bool:
    """Whether a model version was trained on this archive and these splits."""
    return all(version.tags.get(name) == value for name, value in data.items())


def versions(mlflow: Any) -> list[Any]:
    """All registered versions, the first one first."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{REGISTERED_NAME}'")
    return sorted(found, key=lambda version: int(version.version))


def version_of_run(mlflow: Any, run: Any, data: dict[str, str]) -> Any | None:
    """The version that holds the run's ONNX file already, from an earlier call or one that was interrupted."""
    sha256 = run.data.tags["onnx_sha256"]
    found = [each for each in versions(mlflow) if each.tags.get("onnx_sha256") == sha256 and same_data(each, data)]
    return found[0] if found else None


def register(mlflow: Any, run: Any, model: Path, data: dict[str, str]) -> Any:
    """Log the folder `model`, in MLflow's ONNX flavour, into the run and register it; the new version.

    The run's own artefacts may be overwritten by another export; a version's must not change.
    """
    sha256, accuracy = run.data.tags["onnx_sha256"], run.data.metrics["best_validation_accuracy"]
    name = f"onnx_model_{sha256[:8]}"
    mlflow.MlflowClient().log_artifacts(run.info.run_id, str(model), name)
    tags = data | {"onnx_sha256": sha256, "validation_accuracy": repr(accuracy)}
    with redirect_stderr(StringIO()):  # MLflow tells there what the caller tells; what fails is raised
        return mlflow.register_model(f"runs:/{run.info.run_id}/{name}", REGISTERED_NAME, tags=tags)


def fetch_version(mlflow: Any, version: Any, folder: Path) -> Path:
    """Download a version's files to `folder`; its ONNX file is the registered one or `PipelineError` is raised."""
    folder.mkdir(exist_ok=True)
    address = f"models:/{REGISTERED_NAME}/{version.version}"
    files = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
    owner = f"version {version.version} of {REGISTERED_NAME}"
    require_sha256(files / ONNX_FILE, version.tags["onnx_sha256"], owner)
    return files


def fetch_artefact(mlflow: Any, run: Any, artefact: str, folder: Path) -> Path:
    """Download one of the run's artefacts into `folder`."""
    return Path(
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=artefact, dst_path=str(folder))
    )


def require_sha256(path: Path, expected: str, owner: str) -> None:
    """Raise `PipelineError` where the file is not the one that was recorded."""
    if (actual := sha256_of(path)) != expected:
        raise PipelineError(
            f"{path.name} of {owner} was changed: its SHA-256 is {actual}, recorded was {expected}. Delete that run or "
            "version in MLflow, then run `dvc repro --force --single-item evaluate export` and `make export`."
        )


def record(mlflow: Any, version: Any, decision: str, facts: dict[str, Any]) -> None:
    """Write a decision and its figures on the version, and move the alias to one that is promoted.

    The decision is written first: an interrupted call finds it and moves the alias.
    """
    client = mlflow.MlflowClient()
    for name, value in facts.items():
        client.set_model_version_tag(REGISTERED_NAME, version.version, f"decision.{name}", str(value))
    client.set_model_version_tag(REGISTERED_NAME, version.version, "decision", decision)
    if decision == PROMOTED:
        crown(mlflow, version)


def crown(mlflow: Any, version: Any) -> None:
    """Move the alias to the version."""
    mlflow.MlflowClient().set_registered_model_alias(REGISTERED_NAME, ALIAS, version.version)
