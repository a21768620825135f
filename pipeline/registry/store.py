"""Access to the MLflow Model Registry: competing runs, the champion, and the decision about each version.

A decision is a set of tags on the model version, all starting with `decision`.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import PipelineError
from pipeline.registry.bundle import COPIED, ONNX_FILE, PER_CLASS, PLOTS, checksums
from pipeline.tracking.store import displayed_uri, explain_store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

REGISTERED_NAME = "cifar10-classifier"
ALIAS = "champion"
ARTIFACTS = {ONNX_FILE, PER_CLASS, PLOTS}  # of a run that competes
FACTS = "facts.json"  # in a version: what its bundle's manifest will contain
CONTENT = (*COPIED, PER_CLASS, FACTS)  # files and folders of a version
CONTENT_TAG = "content_sha256"
PROMOTED, KEPT, ROLLED_BACK = "promoted", "kept-champion", "rolled-back"  # decisions
Facts = dict[str, object]  # a `decision`, and what is recorded with it: `by`, `reason` and figures


@explain_store_errors()
def competing_runs(client: "MlflowClient", data: dict[str, str]) -> list["Run"]:
    """The finished runs on this data that passed parity, best validation accuracy first; `PipelineError` if none."""
    import mlflow

    usable = "attributes.status = 'FINISHED' and tags.parity_passed = 'true' and metrics.best_validation_accuracy >= 0"
    runs = mlflow.search_runs(
        filter_string=" and ".join([usable, *(f"tags.{name} = '{value}'" for name, value in data.items())]),
        order_by=["metrics.best_validation_accuracy DESC", "start_time ASC"],
        output_format="list",
    )
    complete = [run for run in runs if {item.path for item in client.list_artifacts(run.info.run_id)} >= ARTIFACTS]
    if not complete:
        raise PipelineError(
            f"{displayed_uri()} has no finished run with an exported model on the current data (archive "
            f"{data['archive_sha256'][:8]}). Run `make repro`; if the results exist but this store does not have them, "
            "run `dvc repro --force --single-item evaluate export`. Then run `make export`."
        )
    return complete


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
def all_versions(client: "MlflowClient") -> list["ModelVersion"]:
    """All registered versions, in order."""
    found = client.search_model_versions(f"name = '{REGISTERED_NAME}'")
    return sorted(found, key=lambda version: int(version.version))


def version_of_run(client: "MlflowClient", run: "Run", data: dict[str, str]) -> "ModelVersion | None":
    """The version that holds the run's ONNX file, if an earlier call registered it, even one that was interrupted."""
    wanted = data | {"onnx_sha256": run.data.tags["onnx_sha256"]}
    found = (each for each in all_versions(client) if is_same_data(each, wanted) and CONTENT_TAG in each.tags)
    return next(found, None)


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


def content_sha256(model: Path) -> str:
    """One hash for all files of a version from which a bundle is made."""
    content = {name: file["sha256"] for name, file in checksums(model).items() if name.split("/")[0] in CONTENT}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def fetch_version(version: "ModelVersion") -> Iterator[Path]:
    """A temporary folder with a version's files; `PipelineError` if they were changed or not registered here."""
    owner = f"version {version.version} of {REGISTERED_NAME}"
    if CONTENT_TAG not in version.tags:
        raise PipelineError(
            f"{owner} was not registered by this `make export`: it has no tag {CONTENT_TAG}. "
            f"Remove its alias {ALIAS} in MLflow, then run `make export`."
        )
    with tempfile.TemporaryDirectory() as folder:
        files = download(f"models:/{REGISTERED_NAME}/{version.version}", Path(folder))
        require_same(content_sha256(files), version.tags[CONTENT_TAG], owner)
        yield files


@explain_store_errors()
def download(uri: str, folder: Path) -> Path:
    """Download what is stored under an MLflow URI, such as "runs:/RUN/model.onnx", to `folder`."""
    import mlflow

    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def require_same(actual: str, expected: str, owner: str) -> None:
    """Raise `PipelineError` if the SHA-256 of files is not the recorded one."""
    if actual != expected:
        raise PipelineError(
            f"the files of {owner} were changed: their SHA-256 is {actual}, recorded was {expected}. Delete that run "
            "or version in MLflow, then run `dvc repro --force --single-item evaluate export` and `make export`."
        )


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
