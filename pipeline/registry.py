"""The Model Registry: which run competes, which version is champion, and what was decided about each version.

A decision is a set of tags on the model version, all beginning with `decision`.
"""

import hashlib
import json
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
FACTS = "facts.json"  # of a version: what its bundle's manifest will say
CONTENT = (
    ONNX_FILE,
    "model.int8.onnx",
    PER_CLASS,
    FACTS,
    PICTURES,
    *(f"test_data_set_{n}" for n in range(3)),
)  # of a version
CONTENT_TAG = "content_sha256"
PROMOTED, KEPT, ROLLED_BACK = "promoted", "kept-champion", "rolled-back"  # decisions


def competing_runs(mlflow: Any, data: dict[str, str]) -> list[Any]:
    """The finished runs on this data with proven parity, the highest validation accuracy first; of equals, the earliest.

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
    complete = [run for run in runs if "best_validation_accuracy" in run.data.metrics and _has_files(mlflow, run)]
    if not complete:
        raise PipelineError(
            f"there is no finished run with an exported model on the current data (archive {data['archive_sha256'][:8]}) "
            f"in {shown_uri()}. Run `make repro`, or, if the results are there and this store has not seen them, "
            "`dvc repro --force --single-item evaluate export`; then `make export`."
        )
    return complete


def _has_files(mlflow: Any, run: Any) -> bool:
    files = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    return {ONNX_FILE, PER_CLASS, PICTURES} <= files


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
    for version in versions(mlflow):
        same = version.tags.get("onnx_sha256") == run.data.tags["onnx_sha256"] and same_data(version, data)
        if same and CONTENT_TAG in version.tags:
            return version
    return None


def register(mlflow: Any, run: Any, model: Path, data: dict[str, str]) -> Any:
    """Log the folder `model`, in MLflow's ONNX flavour, into the run and register it; the new version.

    The run's own artefacts may be overwritten by another export; a version's must not change, and
    what an interrupted call logged must not mix with it: hence the hashes in the folder's name.
    """
    sha256, accuracy, content = (
        run.data.tags["onnx_sha256"],
        run.data.metrics["best_validation_accuracy"],
        content_sha256(model),
    )
    name = f"onnx_model_{sha256[:8]}_{content[:8]}"
    mlflow.MlflowClient().log_artifacts(run.info.run_id, str(model), name)
    tags = data | {"onnx_sha256": sha256, CONTENT_TAG: content, "validation_accuracy": repr(accuracy)}
    with redirect_stderr(StringIO()):  # MLflow tells there what the caller tells; what fails is raised
        return mlflow.register_model(f"runs:/{run.info.run_id}/{name}", REGISTERED_NAME, tags=tags)


def content_sha256(model: Path) -> str:
    """One hash for all files of a version's folder that a bundle is made from."""
    files = {path.relative_to(model).as_posix(): sha256_of(path) for path in model.rglob("*") if path.is_file()}
    ours = {name: value for name, value in files.items() if name.split("/")[0] in CONTENT}
    return hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()


def fetch_version(mlflow: Any, version: Any, folder: Path) -> Path:
    """Download a version's files to `folder`.

    Raises:
        PipelineError: they are not the ones that were registered, or `make export` did not register it.
    """
    owner = f"version {version.version} of {REGISTERED_NAME}"
    if CONTENT_TAG not in version.tags:
        raise PipelineError(
            f"{owner} was not registered by this `make export`: it has no tag {CONTENT_TAG}. "
            f"Take the alias {ALIAS} from it in MLflow, then run `make export`."
        )
    folder.mkdir(exist_ok=True)
    address = f"models:/{REGISTERED_NAME}/{version.version}"
    files = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
    require_same(content_sha256(files), version.tags[CONTENT_TAG], owner)
    return files


def fetch_artefact(mlflow: Any, run: Any, artefact: str, folder: Path) -> Path:
    """Download one of the run's artefacts into `folder`."""
    return Path(
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=artefact, dst_path=str(folder))
    )


def require_same(actual: str, expected: str, owner: str) -> None:
    """Raise `PipelineError` where files are not the ones that were recorded, by their SHA-256."""
    if actual != expected:
        raise PipelineError(
            f"the files of {owner} were changed: their SHA-256 is {actual}, recorded was {expected}. Delete that run or "
            "version in MLflow, then run `dvc repro --force --single-item evaluate export` and `make export`."
        )


def record(mlflow: Any, version: Any, decision: str, facts: dict[str, Any]) -> None:
    """Write a decision and its figures on the version in place of an earlier one, and move the alias to one that is promoted.

    `decision` is written after its figures and before the alias moves: after an interruption the next
    call judges again, or finds it and moves the alias.
    """
    client = mlflow.MlflowClient()
    for name in sorted(name for name in version.tags if name.split(".")[0] == "decision"):  # the verdict itself first
        client.delete_model_version_tag(REGISTERED_NAME, version.version, name)
    for name, value in facts.items():
        client.set_model_version_tag(REGISTERED_NAME, version.version, f"decision.{name}", str(value))
    client.set_model_version_tag(REGISTERED_NAME, version.version, "decision", decision)
    if decision == PROMOTED:
        crown(mlflow, version)


def crown(mlflow: Any, version: Any) -> None:
    """Move the alias to the version."""
    mlflow.MlflowClient().set_registered_model_alias(REGISTERED_NAME, ALIAS, version.version)
