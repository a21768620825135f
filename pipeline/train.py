"""Train stage: fit a network of pipeline/models.py and keep the epoch best on validation."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.calibration import calibrate
from pipeline.checkpoint import Checkpoint, checkpoint_path, resumable, write_checkpoint
from pipeline.errors import PipelineError
from pipeline.files import remove, sha256_of, whole, write_csv, write_json
from pipeline.keras_file import save_model
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS
from pipeline.params import Params, run_stage
from pipeline.splits import Split, read_split, require_validated

UNFINISHED = "models/.unfinished"  # in the repository's root


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"should be one of {', '.join(NETWORKS)}")
    return name


class TrainParams(Params):
    model: Annotated[str, AfterValidator(_known_network)]
    epochs: int | None = Field(gt=0)
    batch_size: int | None = Field(gt=0)
    learning_rate: float | None = Field(gt=0)
    seed: int = Field(ge=0, lt=2**32)


def train(
    params: TrainParams,
    training: Path,
    validation: Path,
    report: Path,
    model: Path,
    metrics: Path,
    timing: Path,
    curves: Path,
) -> None:
    """Fit the network; write the epoch best on validation, its figures, the wall time and the learning curves.

    Its probabilities are calibrated on validation.

    A training that was killed resumes after its last whole epoch, in its MLflow run, and ends with the
    same bytes.

    Raises:
        PipelineError: the splits were not validated, or the MLflow store cannot be written; both
            are found before the work starts. The loss became infinite or no number.
    """
    approved = require_validated(report, training, validation)
    start_keras()
    from pipeline import devices, lineage, tracking
    from pipeline.fit import fit, kept_figures

    place = {"devices": ", ".join(devices.names()), "precision": devices.precision()}
    data, before = lineage.data_tags(approved), lineage.stage_tags("download", "prepare", "validate")
    tags = data | lineage.code_tags() | before | place | {"model": params.model}
    unfinished = checkpoint_path(
        tracking.root() / UNFINISHED, params.model_dump(), lineage.logged_settings(), data, place
    )
    with resumable(unfinished) as (begun, run_id), tracking.training_run(tags, run_id) as (mlflow, record):
        record(lineage.log_setting, mlflow, approved)
        record(lineage.log_missing_epochs, mlflow, begun.rows if begun else [])
        splits = read_split(training), read_split(validation)
        announce(params, *splits, begun)

        def end_epoch(checkpoint: Checkpoint) -> None:
            write_checkpoint(unfinished, checkpoint, mlflow.active_run().info.run_id)
            record(lineage.log_epoch, mlflow, checkpoint.rows[-1])

        try:
            fitted, rows, seconds = fit(params, *splits, end_epoch, begun)
        except PipelineError:  # it would go wrong again
            remove(unfinished)
            raise
        temperature = calibrate(fitted, splits[1])
        figures = kept_figures(fitted, rows, splits[1]) | {"temperature": temperature}
        speed = {"seconds": seconds, "images_per_second": len(rows) * len(splits[0].labels) / seconds}
        with whole(model, metrics, timing, curves) as drafts:
            save_model(fitted, drafts[0], figures)
            write_json(drafts[1], figures)
            write_json(drafts[2], speed)
            write_csv(drafts[3], rows)
        record(mlflow.log_metrics, {f"train_{name}": value for name, value in speed.items()})
        record(lineage.log_model, mlflow, fitted, figures, splits[1].images[:2])
        record(mlflow.set_tag, tracking.MODEL_TAG, sha256_of(model))  # last: a run that has it is complete
    print(
        "train: kept epoch {best_epoch} of {epochs}, validation accuracy {validation_accuracy:.4f}, "
        "temperature {temperature:.2f}".format(**figures)
    )


def announce(params: TrainParams, training: Split, validation: Split, begun: Checkpoint | None) -> None:
    """Say what begins, since the first epoch can take minutes."""
    sizes = f"{len(training.labels):,} images, {len(validation.labels):,} for validation"
    print(f"train: {params.model}, {sizes}", flush=True)
    if begun:
        print(f"train: resumes after epoch {len(begun.rows)}, where it was interrupted", flush=True)


if __name__ == "__main__":
    run_stage(train, TrainParams)
