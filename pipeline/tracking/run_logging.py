"""What the active MLflow run contains: settings, data set, epochs and the model."""

from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, sha256_of
from pipeline.common.params import read_params
from pipeline.common.urls import shown_url
from pipeline.data.cifar10 import data_name
from pipeline.models.keras_backend import filtered_stderr
from pipeline.models.saving import load_model, read_training_record
from pipeline.tracking.lineage import data_tags, stage_tags
from pipeline.tracking.runs import run_with_model

if TYPE_CHECKING:
    import keras

    from pipeline.data.splits import Verdict

DIGEST_LENGTH = 36  # MLflow's limit for the digest of a data set; a tag holds the whole hash


def log_settings(settings: Json, archive_sha256: str, is_cifar10: bool) -> None:
    """Log the settings, by "section.key", as parameters, and the data set with the archive's hash as its digest."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    mlflow.log_params(settings)
    name, download = data_name(settings["download.name"], archive_sha256, is_cifar10), read_params()["download"]
    mlflow.set_tag("data", name)
    # A model from DVC's cache can be older than params.yaml, whose URLs then serve another archive.
    is_served = download["sha256"] == archive_sha256
    source = HTTPDatasetSource(shown_url(download["urls"][0])) if is_served else CodeDatasetSource({})
    data_set = MetaDataset(source, name, archive_sha256[:DIGEST_LENGTH])  # type: ignore[abstract]  # wrongly typed
    mlflow.log_input(data_set, context="training")


def log_epoch(row: dict[str, float]) -> None:
    """Log a row of curves.csv at its epoch, counted from 1.

    MLflow's own Keras callback (3.17) logs the validation figures of every epoch at step 0.
    """
    import mlflow

    mlflow.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))


def log_missing_epochs(rows: list[dict[str, float]], run_id: str) -> None:
    """Log the rows of a resumed training that the active run, `run_id`, does not have yet."""
    import mlflow

    logged = {metric.step for metric in mlflow.MlflowClient().get_metric_history(run_id, "validation_accuracy")}
    for row in rows:
        if row["epoch"] not in logged:
            log_epoch(row)


def log_model(model: "keras.Model", figures: dict[str, float], example: np.ndarray) -> None:
    """Log the Keras model with signature, input example (uint8 images) and summary, and figures of train.json."""
    import keras
    import mlflow

    mlflow.log_metrics({f"best_{name}": figures[name] for name in ("validation_accuracy", "validation_loss")})
    lines: list[str] = []
    model.summary(print_fn=lambda line, *_, **__: lines.append(line))
    mlflow.log_text("\n".join(lines), "model_summary.txt")
    signature = mlflow.models.infer_signature(example, np.asarray(model(example)))
    requirements = [f"{name}=={version(name)}" for name in ("keras", "tensorflow", "numpy")]
    with filtered_stderr():  # MLflow predicts the example
        keras.config.disable_interactive_logging()
        # The TensorFlow flavour, because mlflow.keras 3.17 cannot write an input example.
        mlflow.tensorflow.log_model(
            model, name="model", signature=signature, input_example=example, pip_requirements=requirements
        )


def run_of_model(model: Path, verdict: "Verdict", example: np.ndarray) -> AbstractContextManager[None]:
    """Make the MLflow run of a model the active run; if it is lost, open one from the model's training record.

    Raises `PipelineError` if the model was trained on other splits, or the store cannot be used.
    """
    record = read_training_record(model)
    if record.data != data_tags(verdict):
        raise PipelineError(
            f"{model} was trained on other splits than those that were validated: its data is {record.data}, "
            f"validated is {data_tags(verdict)}. `dvc repro` trains on the current splits."
        )

    def restore() -> None:
        import mlflow

        network = load_model(model)
        before = stage_tags("download", "prepare", "validate")  # no git commit: the one that trained it is unknown
        mlflow.set_tags(record.data | before | {"model": network.name})
        log_settings(record.settings, record.data["archive_sha256"], verdict["is_cifar10"])
        for row in record.epochs:
            log_epoch(row)
        log_model(network, record.figures, example)

    return run_with_model(sha256_of(model), restore)
