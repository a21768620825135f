"""`make export`: the best tracked model into the Model Registry, and its bundle into dist/.

Stands outside the DAG, since it reads the tracking store: python -m pipeline.release REPORT DIST
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle import write_bundle
from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.errors import PipelineError, one_message
from pipeline.files import sha256_of
from pipeline.splits import require_validated
from pipeline.tracking import connect, explained, shown_uri

REGISTERED_NAME = "cifar10-classifier"
ALIAS = "champion"
# Artefacts of a run: the exported file, the table by class, and the MLflow model that is registered.
ONNX_FILE, PER_CLASS, ONNX_MODEL = "model.onnx", "per_class.csv", "onnx_model"


def release(report: Path, dist: Path) -> None:
    """Make the best competing run the champion and write its bundle; a tie changes nothing.

    Args:
        report: validate.json of the current results: a run competes if it is on the same data.
        dist: folder of the bundles.

    Raises:
        PipelineError: no run competes, or the store cannot be reached.
    """
    data = {name: require_validated(report)[name] for name in ("archive_sha256", "splits_sha256")}
    mlflow = connect()
    with explained():
        client = mlflow.MlflowClient()
        best = best_run(mlflow, data)
        champion = current_champion(client)
        if (
            champion is None
            or not same_data(champion, data)
            or accuracy_of(best) > float(champion.tags["validation_accuracy"])
        ):
            champion = promote(mlflow, best, data)
            print(f"export: version {champion.version} of {REGISTERED_NAME} is the new {ALIAS}")
        else:
            print(
                f"export: version {champion.version} of {REGISTERED_NAME} stays the {ALIAS}: no competing run is better"
            )
        run = client.get_run(champion.run_id)
        with tempfile.TemporaryDirectory() as folder:
            files = fetch_onnx(mlflow, run, Path(folder)), fetch(mlflow, run, PER_CLASS, Path(folder))
            bundle = write_bundle(dist, f"{REGISTERED_NAME}-v{champion.version}", *files, run, int(champion.version))
    print(
        f"export: {bundle}, validation accuracy {accuracy_of(run):.4f}, test accuracy {run.data.metrics['test_accuracy']:.4f}"
    )


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
        f"in {shown_uri()}. Run `make repro`, then `make export`."
    )


def accuracy_of(run: Any) -> float:
    """Accuracy of the kept epoch on the validation split, 0 to 1."""
    return run.data.metrics["best_validation_accuracy"]


def current_champion(client: Any) -> Any | None:
    """The model version with the alias, or None."""
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
        log_onnx_model(mlflow, run)
        tags = data | {"onnx_sha256": onnx_sha256, "validation_accuracy": repr(accuracy_of(run))}
        version = mlflow.register_model(f"runs:/{run.info.run_id}/{ONNX_MODEL}", REGISTERED_NAME, tags=tags)
    client.set_registered_model_alias(REGISTERED_NAME, ALIAS, version.version)
    return version


def log_onnx_model(mlflow: Any, run: Any) -> None:
    """Log the run's ONNX file in MLflow's ONNX flavour, with signature and input example."""
    import onnx

    example = np.zeros((1, SIDE, SIDE, CHANNELS), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        proto = onnx.load(fetch_onnx(mlflow, run, Path(folder)))
        classes = proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        signature = mlflow.models.infer_signature(
            {"image": example}, {"probabilities": np.zeros((1, classes), np.float32)}
        )
        model = Path(folder) / ONNX_MODEL
        mlflow.onnx.save_model(
            proto,
            model,
            signature=signature,
            input_example={"image": example},
            pip_requirements=["onnxruntime", "numpy"],
            save_as_external_data=False,  # MLflow's default would strip the weights from `proto`
        )
        mlflow.MlflowClient().log_artifacts(run.info.run_id, str(model), ONNX_MODEL)


def fetch(mlflow: Any, run: Any, artefact: str, folder: Path) -> Path:
    """Download one of the run's artefacts into `folder`."""
    return Path(
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=artefact, dst_path=str(folder))
    )


def fetch_onnx(mlflow: Any, run: Any, folder: Path) -> Path:
    """The ONNX file that the run logged.

    Raises:
        PipelineError: its hash is not the one that the run was tagged with.
    """
    path = fetch(mlflow, run, ONNX_FILE, folder)
    if sha256_of(path) != run.data.tags["onnx_sha256"]:
        raise PipelineError(
            f"the artefact {ONNX_FILE} of MLflow run {run.info.run_id} was changed: its SHA-256 is {sha256_of(path)}, "
            f"logged was {run.data.tags['onnx_sha256']}. Delete that run, then run `dvc repro --force export` and `make export`."
        )
    return path


if __name__ == "__main__":
    with one_message("export"):
        release(*map(Path, sys.argv[1:]))
