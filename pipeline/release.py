"""`make export`: the best tracked model into the Model Registry, and its bundle into dist/.

Stands outside the DAG, since it reads the tracking store: python -m pipeline.release REPORT DIST
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle import manifest_facts, write_bundle
from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.errors import PipelineError, one_message
from pipeline.files import sha256_of, write_json
from pipeline.splits import require_validated
from pipeline.tracking import connect, explained, shown_uri

REGISTERED_NAME = "cifar10-classifier"
ALIAS = "champion"
ONNX_FILE, PER_CLASS = "model.onnx", "per_class.csv"  # artefacts of a run and files of a registered version
FACTS = "facts.json"  # of a registered version: what the bundle's manifest says, as it was when registered


def release(report: Path, dist: Path) -> None:
    """Make the best competing run the champion and write its bundle; a tie changes nothing.

    Args:
        report: validate.json of the current results: a run competes if it is on the same data.
        dist: folder of the bundles.

    Raises:
        PipelineError: no run competes, or the store cannot be reached.
    """
    if not report.exists():
        raise PipelineError("there are no results here yet. Run `make repro`, then `make export`.")
    data = {name: require_validated(report)[name] for name in ("archive_sha256", "splits_sha256")}
    mlflow = connect()
    with tempfile.TemporaryDirectory() as folder:
        with explained():
            champion = choose(mlflow, data)
            files = Path(
                mlflow.artifacts.download_artifacts(f"models:/{REGISTERED_NAME}/{champion.version}", dst_path=folder)
            )
        require_sha256(
            files / ONNX_FILE, champion.tags["onnx_sha256"], f"version {champion.version} of {REGISTERED_NAME}"
        )
        facts = json.loads((files / FACTS).read_text())
        facts["lineage"]["model_version"] = int(champion.version)
        name = f"{REGISTERED_NAME}-v{champion.version}"
        bundle = write_bundle(dist / name, files / ONNX_FILE, files / PER_CLASS, facts)
    metrics = facts["metrics"]
    print(
        f"export: {bundle}, validation accuracy {metrics['validation_accuracy']:.4f}, "
        f"test accuracy {metrics['test_accuracy']:.4f}"
    )


def choose(mlflow: Any, data: dict[str, str]) -> Any:
    """The champion's model version: the current one, unless a competing run is better or it is on other data."""
    best, champion = best_run(mlflow, data), current_champion(mlflow)
    stays = champion is not None and same_data(champion, data)
    if stays and accuracy_of(best) <= float(champion.tags["validation_accuracy"]):
        print(f"export: version {champion.version} of {REGISTERED_NAME} stays the {ALIAS}: no competing run is better")
        return champion
    champion = promote(mlflow, best, data)
    print(f"export: version {champion.version} of {REGISTERED_NAME} is the new {ALIAS}")
    return champion


def best_run(mlflow: Any, data: dict[str, str]) -> Any:
    """The finished run on this data with proven parity and the highest validation accuracy; of equals, the first."""
    conditions = ["attributes.status = 'FINISHED'", "tags.parity_passed = 'true'"]
    conditions += [f"tags.{name} = '{value}'" for name, value in data.items()]
    runs = mlflow.search_runs(
        filter_string=" and ".join(conditions),
        order_by=["metrics.best_validation_accuracy DESC", "start_time ASC"],
        output_format="list",
    )
    for run in runs:
        files = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        if {ONNX_FILE, PER_CLASS} <= files and "best_validation_accuracy" in run.data.metrics:
            return run
    raise PipelineError(
        f"there is no finished run with an exported model on the current data (archive {data['archive_sha256'][:8]}) "
        f"in {shown_uri()}. Run `make repro`, or, if the results are there and this store has not seen them, "
        "`dvc repro --force --single-item evaluate export`; then `make export`."
    )


def accuracy_of(run: Any) -> float:
    """Accuracy of the kept epoch on the validation split, 0 to 1."""
    return run.data.metrics["best_validation_accuracy"]


def current_champion(mlflow: Any) -> Any | None:
    """The model version with the alias, or None."""
    client = mlflow.MlflowClient()
    found = client.search_registered_models(f"name = '{REGISTERED_NAME}'")
    version = found[0].aliases.get(ALIAS) if found else None
    return client.get_model_version(REGISTERED_NAME, version) if version else None


def same_data(version: Any, data: dict[str, str]) -> bool:
    """Whether a model version was trained on this archive and these splits."""
    return all(version.tags.get(name) == value for name, value in data.items())


def promote(mlflow: Any, run: Any, data: dict[str, str]) -> Any:
    """Register the run's ONNX model, unless it already is, and move the alias to it."""
    client = mlflow.MlflowClient()
    onnx_sha256 = run.data.tags["onnx_sha256"]
    versions = client.search_model_versions(f"name = '{REGISTERED_NAME}'")
    registered = [
        version for version in versions if version.tags.get("onnx_sha256") == onnx_sha256 and same_data(version, data)
    ]
    if registered:  # by a call that was interrupted, or as an earlier champion
        version = registered[0]
    else:
        source = log_version(mlflow, run)
        tags = data | {"onnx_sha256": onnx_sha256, "validation_accuracy": repr(accuracy_of(run))}
        version = mlflow.register_model(source, REGISTERED_NAME, tags=tags)
    client.set_registered_model_alias(REGISTERED_NAME, ALIAS, version.version)
    return version


def log_version(mlflow: Any, run: Any) -> str:
    """Log what a version consists of into the run, in MLflow's ONNX flavour; its address.

    The run's own artefacts may be overwritten by another export; a version's must not change.
    """
    import onnx

    name = f"onnx_model_{run.data.tags['onnx_sha256'][:8]}"
    with tempfile.TemporaryDirectory() as folder:
        onnx_file, per_class = (fetch(mlflow, run, artefact, folder) for artefact in (ONNX_FILE, PER_CLASS))
        require_sha256(onnx_file, run.data.tags["onnx_sha256"], f"MLflow run {run.info.run_id}")
        proto, example = onnx.load(onnx_file), np.zeros((1, SIDE, SIDE, CHANNELS), np.uint8)
        scores = np.zeros((1, proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value), np.float32)
        model = Path(folder) / name
        mlflow.onnx.save_model(
            proto,
            model,
            signature=mlflow.models.infer_signature({"image": example}, {"probabilities": scores}),
            input_example={"image": example},
            pip_requirements=["onnxruntime", "numpy"],
            save_as_external_data=False,  # MLflow's default would strip the weights from `proto`
        )
        shutil.copy(onnx_file, model / ONNX_FILE)  # to the byte, whatever MLflow made of it
        shutil.copy(per_class, model / PER_CLASS)
        write_json(model / FACTS, manifest_facts(proto, run))
        mlflow.MlflowClient().log_artifacts(run.info.run_id, str(model), name)
    return f"runs:/{run.info.run_id}/{name}"


def fetch(mlflow: Any, run: Any, artefact: str, folder: str) -> Path:
    """Download one of the run's artefacts into `folder`."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=artefact, dst_path=folder))


def require_sha256(path: Path, expected: str, owner: str) -> None:
    """Raise `PipelineError` where the file is not the one that was recorded."""
    if (actual := sha256_of(path)) != expected:
        raise PipelineError(
            f"{path.name} of {owner} was changed: its SHA-256 is {actual}, recorded was {expected}. Delete that run or "
            "version in MLflow, then run `dvc repro --force --single-item evaluate export` and `make export`."
        )


if __name__ == "__main__":
    with one_message("export"):
        release(*map(Path, sys.argv[1:]))
