"""What a run says about where it comes from: data, parameters, code, and the DVC stages before it."""

import csv
import json
import os
import subprocess
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.cifar10 import data_name
from pipeline.files import read_json, sha256_of
from pipeline.keras_file import load_model, require_figures
from pipeline.keras_start import without_chatter
from pipeline.models import NETWORKS
from pipeline.params import read_params
from pipeline.tracking import run_of_model

DIGEST_LENGTH = 36  # MLflow's limit for a data set's digest; the whole hash stands in a tag
LIBRARIES = ("keras", "tensorflow", "numpy", "onnx", "tf2onnx", "onnxruntime")
LOCK_FILE = Path("dvc.lock")


def data_tags(report: dict[str, Any]) -> dict[str, str]:
    """Tags by which runs on the same data are found, from validate.json."""
    return {"archive_sha256": report["archive_sha256"], "splits_sha256": report["splits_sha256"]}


def code_tags() -> dict[str, str]:
    """Library versions; git commit, whether tracked files differ from it, and DVC experiment's name, where there are any."""
    tags = {f"library.{name}": version(name) for name in LIBRARIES}
    if commit := _git("rev-parse", "HEAD"):
        tags |= {
            "git_commit": commit,
            "git_dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        }
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc_exp_name"] = experiment
    return tags


def stage_tags(*stages: str) -> dict[str, str]:
    """A tag `dvc.STAGE` for each stage before this one: its outputs' hashes from dvc.lock."""
    if not LOCK_FILE.exists():  # run by hand, without DVC
        return {}
    locked = yaml.safe_load(LOCK_FILE.read_text())["stages"]
    return {
        f"dvc.{stage}": json.dumps({out["path"]: out["md5"] for out in locked[stage].get("outs", [])})
        for stage in stages
        if stage in locked
    }


def _git(*arguments: str) -> str:
    """What git prints; empty where there is no git or no repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def logged_settings() -> dict[str, Any]:
    """The settings of the stages up to train, by "section.key"; what params.yaml leaves to the network has its value."""
    sections = {name: read_params()[name] for name in ("download", "prepare", "validate", "train")}
    own = NETWORKS[sections["train"]["model"]]
    train = {key: getattr(own, key) if value is None else value for key, value in sections["train"].items()}
    sections["train"] = train | {"optimizer": own.optimizer.__name__} | own.augmentation._asdict()
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def log_setting(mlflow: Any, report: dict[str, Any]) -> None:
    """Log the settings of the stages up to train, and the data set with the archive's hash as its digest."""
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    settings, archive = logged_settings(), report["archive_sha256"]
    mlflow.log_params(settings)
    name = data_name(settings["download.name"], archive)
    mlflow.set_tag("data", name)
    source = HTTPDatasetSource(settings["download.urls"][0])
    mlflow.log_input(MetaDataset(source, name, archive[:DIGEST_LENGTH]), context="training")


def log_epoch(mlflow: Any, row: dict[str, float]) -> None:
    """Log a row of curves.csv at its epoch, counted from 1.

    MLflow's own Keras callback (3.17) does not serve: it logs each epoch's validation figures at step 0.
    """
    mlflow.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))


def log_missing_epochs(mlflow: Any, rows: list[dict[str, float]]) -> None:
    """Log those rows of a training that goes on which the active run does not hold yet."""
    run_id = mlflow.active_run().info.run_id
    logged = {metric.step for metric in mlflow.MlflowClient().get_metric_history(run_id, "validation_accuracy")}
    for row in rows:
        if row["epoch"] not in logged:
            log_epoch(mlflow, row)


def log_model(mlflow: Any, model: Any, metrics: dict[str, Any], example: np.ndarray) -> None:
    """Log the trained Keras model with signature, input example and summary, and the figures of the kept epoch.

    Args:
        metrics: content of train.json.
        example: uint8 (n, 32, 32, 3).
    """
    mlflow.log_metrics({f"best_{name}": metrics[name] for name in ("validation_accuracy", "validation_loss")})
    import keras

    lines: list[str] = []
    model.summary(print_fn=lambda line, *_, **__: lines.append(line))
    mlflow.log_text("\n".join(lines), "model_summary.txt")
    signature = mlflow.models.infer_signature(example, np.asarray(model(example)))
    requirements = [f"{name}=={version(name)}" for name in ("keras", "tensorflow", "numpy")]
    with without_chatter():  # it predicts the example
        keras.config.disable_interactive_logging()
        # The TensorFlow flavour, since mlflow.keras 3.17 cannot write an input example.
        mlflow.tensorflow.log_model(
            model, name="model", signature=signature, input_example=example, pip_requirements=requirements
        )


def run_of(
    model: Path, report: dict[str, Any], metrics: Path, curves: Path, example: np.ndarray
) -> AbstractContextManager[Any]:
    """The MLflow run of a trained model, for evaluate and export; where it is lost, another with what is on disk.

    Args:
        report: content of validate.json.
        metrics, curves: as train wrote them.
        example: uint8 (n, 32, 32, 3).

    Raises:
        PipelineError: `model` and `metrics` are not of one training, or the store cannot be used.
    """
    figures = read_json(metrics, "`dvc repro` restores it.")
    require_figures(model, figures)

    def restore(mlflow: Any) -> None:
        network = load_model(model)
        before = stage_tags("download", "prepare", "validate")  # but no commit: which one trained it is not known
        mlflow.set_tags(data_tags(report) | before | {"model": network.name})
        log_setting(mlflow, report)
        with curves.open(newline="") as file:
            for row in csv.DictReader(file):
                log_epoch(mlflow, {name: float(value) for name, value in row.items()})
        log_model(mlflow, network, figures, example)

    return run_of_model(sha256_of(model), restore)
