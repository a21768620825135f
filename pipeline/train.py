"""Train stage: fit a network and keep the epoch with the best validation accuracy."""

from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, remove, sha256_of, write_csv, write_json
from pipeline.common.params import run_stage
from pipeline.data.splits import Split, read_split, require_validated
from pipeline.models.keras_backend import filtered_stderr, start_keras
from pipeline.models.saving import TrainingRecord, save_model
from pipeline.training.checkpoint import UNFINISHED, Checkpoint, checkpoint_path, resumable, write_checkpoint
from pipeline.training.settings import TrainParams, settings_of
from pipeline.training.temperature import calibrate


def train(
    params: TrainParams,
    train_split: Path,
    validation_split: Path,
    verdict: Path,
    model: Path,
    metrics: Path,
    headline: Path,
    timing: Path,
    curves: Path,
) -> None:
    """Fit the network; write the model of the best epoch, its figures, the wall time and the learning curves.

    The model is calibrated on validation. A training that was killed resumes after its last whole
    epoch, in its MLflow run, and ends with the same bytes.

    Raises:
        PipelineError: the splits were not validated, or the MLflow store cannot be written (both
            are checked before the fit). The loss became infinite or NaN.
    """
    validated = require_validated(verdict, train=train_split, validation=validation_split)
    start_keras()
    from pipeline.tracking import address, lineage, run_logging, runs
    from pipeline.training import devices
    from pipeline.training.fit import fit, training_figures

    data, stages = lineage.data_tags(validated), lineage.stage_tags("download", "prepare", "validate")
    place = {"devices": ", ".join(devices.names()), "precision": devices.precision()}
    tags = data | lineage.code_tags() | stages | place | {"model": params.model}
    settings = lineage.data_settings() | {f"train.{key}": value for key, value in settings_of(params).items()}
    unfinished = checkpoint_path(address.repository_root() / UNFINISHED, Path(__file__), settings, data, place)
    with resumable(unfinished) as (checkpoint, run_id), runs.training_run(tags, run_id) as record:
        import mlflow  # only now: `training_run` has set the variables that it reads

        record(run_logging.log_settings, settings, data["archive_sha256"], validated["is_cifar10"])
        record(run_logging.log_missing_epochs, checkpoint.rows if checkpoint else [], record.run_id)
        splits = read_split(train_split), read_split(validation_split)
        announce(params, *splits, checkpoint)

        def end_epoch(state: Checkpoint) -> None:
            write_checkpoint(unfinished, state, record.run_id)
            record(run_logging.log_epoch, state.rows[-1])

        try:
            with filtered_stderr():
                fitted, rows, seconds = fit(params, *splits, end_epoch, checkpoint)
                temperature = calibrate(fitted, splits[1])
                figures = training_figures(fitted, rows, splits[1]) | {"temperature": temperature}
        except PipelineError:  # it would fail again
            remove(unfinished)
            raise
        speed = {"seconds": seconds, "images_per_second": len(rows) * len(splits[0].labels) / seconds}
        with atomic_outputs(model, metrics, headline, timing, curves) as drafts:
            save_model(fitted, drafts[0], TrainingRecord(figures, data, settings, rows))
            write_json(drafts[1], figures)
            write_json(drafts[2], {"validation_accuracy": figures["validation_accuracy"]})
            write_json(drafts[3], speed)
            write_csv(drafts[4], rows)
        record(mlflow.log_metrics, {f"train_{name}": value for name, value in speed.items()})
        record(run_logging.log_model, fitted, figures, splits[1].images[:2])
        record(mlflow.set_tag, runs.MODEL_TAG, sha256_of(model))  # last: a run that has it is complete
    print(
        "train: best epoch {best_epoch} of {epochs}, validation accuracy {validation_accuracy:.4f}, "
        "temperature {temperature:.2f}".format(**figures)
    )


def announce(params: TrainParams, training: Split, validation: Split, checkpoint: Checkpoint | None) -> None:
    """Print what starts, because the first epoch can take minutes."""
    sizes = f"{len(training.labels):,} training images, {len(validation.labels):,} validation images"
    print(f"train: {params.model}, {sizes}", flush=True)
    if checkpoint:
        print(f"train: resumes after epoch {len(checkpoint.rows)}, where it was interrupted", flush=True)


if __name__ == "__main__":
    run_stage(train, TrainParams)
