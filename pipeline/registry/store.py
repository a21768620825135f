"""The MLflow Model Registry: versions, the champion, and the decision about each version.

A decision is a set of tags on the model version, all starting with `decision`.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.registry.artifacts import CONTENT_TAG, REGISTERED_NAME, content_sha256
from pipeline.tracking.store_errors import explain_store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"
PROMOTED, KEPT, ROLLED_BACK = "promoted", "kept-champion", "rolled-back"  # decisions
Facts = dict[str, object]  # a `decision`, and what is recorded with it: `by`, `reason` and figures


@explain_store_errors()
def current_champion(client: "MlflowClient") -> "ModelVersion | None":
    """The model version with the alias, or None."""
    found = client.search_registered_models(f"name = '{REGISTERED_NAME}'")
    version = found[0].aliases.get(ALIAS) if found else None
    return client.get_model_version(REGISTERED_NAME, version) if version else None


def is_same_data(version: "ModelVersion", data: dict[str, str]) -> bool:
    """Whether a model version was trained on this archive and these splits."""
    return all(version.tags.get(name) == value for name, value in data.items())


@explain_store_errors()
def all_versions(client: "MlflowClient", condition: str = "") -> list["ModelVersion"]:
    """All registered versions that meet a condition in MLflow's search syntax, in order."""
    found = client.search_model_versions(f"name = '{REGISTERED_NAME}' {condition}")
    return sorted(found, key=lambda version: int(version.version))


def versions_of_run(client: "MlflowClient", run: "Run", data: dict[str, str]) -> list["ModelVersion"]:
    """The versions that hold the run's ONNX file: earlier calls registered them, even one that was interrupted."""
    wanted = data | {"onnx_sha256": run.data.tags["onnx_sha256"]}
    found = all_versions(client, f"and tags.onnx_sha256 = '{wanted['onnx_sha256']}'")
    return [each for each in found if is_same_data(each, wanted) and CONTENT_TAG in each.tags]


@explain_store_errors()
def register(client: "MlflowClient", run: "Run", model: Path, data: dict[str, str]) -> "ModelVersion":
    """Log the folder `model`, an MLflow model of the ONNX flavour, to the run and register it as a new version.

    Its name there contains hashes: a version must not change with another export, or mix with an interrupted one.
    """
    import mlflow

    sha256, content = run.data.tags["onnx_sha256"], content_sha256(model)
    name = f"onnx_model_{sha256[:8]}_{content[:8]}"
    client.log_artifacts(run.info.run_id, str(model), name)
    accuracy = repr(run.data.metrics["best_validation_accuracy"])
    tags = data | {"onnx_sha256": sha256, CONTENT_TAG: content, "validation_accuracy": accuracy}
    with redirect_stderr(StringIO()):  # MLflow prints there what the caller prints; failures are raised
        return mlflow.register_model(f"runs:/{run.info.run_id}/{name}", REGISTERED_NAME, tags=tags)


@explain_store_errors()
def record_decision(client: "MlflowClient", version: "ModelVersion", facts: Facts) -> None:
    """Replace the decision on the version; its tag goes first and comes last, so an interrupted call leaves none."""
    for name in sorted(name for name in version.tags if name.split(".")[0] == "decision"):  # the decision itself first
        client.delete_model_version_tag(REGISTERED_NAME, version.version, name)
    tags = {f"decision.{name}": value for name, value in facts.items() if name != "decision"}
    for name, value in (tags | {"decision": facts["decision"]}).items():
        client.set_model_version_tag(REGISTERED_NAME, version.version, name, str(value))


@explain_store_errors()
def set_champion_alias(client: "MlflowClient", version: "ModelVersion") -> None:
    """Move the alias to the version."""
    client.set_registered_model_alias(REGISTERED_NAME, ALIAS, version.version)
