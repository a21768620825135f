"""Train stage: fit a network of pipeline/models.py and keep the epoch best on validation."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from pipeline.errors import PipelineError
from pipeline.files import sha256_of, whole, write_csv, write_json
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS, Network, save_model
from pipeline.params import Params, run_stage
from pipeline.splits import Split, read_split, require_validated

EVALUATION_BATCH = 500  # images; larger batches are no faster on a CPU and cost memory
FIGURES = ("loss", "accuracy", "validation_loss", "validation_accuracy")  # of an epoch
STEPS_PER_CALL = 16  # of the optimizer in one graph call


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

    Raises:
        PipelineError: the splits were not validated, or the MLflow store cannot be written; both
            are found before the work starts.
    """
    approved = require_validated(report, training, validation)
    from pipeline import lineage, tracking

    tags = lineage.data_tags(approved) | lineage.code_tags() | lineage.stage_tags("download", "prepare", "validate")
    with tracking.training_run(tags | {"model": params.model}) as (mlflow, record):
        record(lineage.log_setting, mlflow, approved)
        splits = read_split(training), read_split(validation)
        print(
            f"train: {params.model}, {len(splits[0].labels):,} images, {len(splits[1].labels):,} for validation",
            flush=True,
        )
        fitted, rows, seconds = fit(params, *splits, lambda row: record(lineage.log_epoch, mlflow, row))
        best = max(rows, key=lambda row: row["validation_accuracy"])  # of equals, the first
        figures = {
            "validation_accuracy": best["validation_accuracy"],
            "validation_loss": best["validation_loss"],
            "best_epoch": best["epoch"],
            "epochs": len(rows),
        }
        speed = {"seconds": seconds, "images_per_second": len(rows) * len(splits[0].labels) / seconds}
        with whole(model, metrics, timing, curves) as drafts:
            save_model(fitted, drafts[0], figures)
            write_json(drafts[1], figures)
            write_json(drafts[2], speed)
            write_csv(drafts[3], rows)
        record(mlflow.log_metrics, {f"train_{name}": value for name, value in speed.items()})
        record(lineage.log_model, mlflow, fitted, figures, splits[1].images[:2])
        record(mlflow.set_tag, tracking.MODEL_TAG, sha256_of(model))  # last: a run that has it is complete
    print(f"train: kept epoch {best['epoch']} of {len(rows)}, validation accuracy {best['validation_accuracy']:.4f}")


def fit(
    params: TrainParams, training: Split, validation: Split, report_epoch: Callable[[dict[str, float]], None]
) -> tuple[Any, list[dict[str, float]], float]:
    """Train a network from scratch, seeded and deterministic.

    Args:
        report_epoch: is called after each epoch with its row of figures.

    Returns:
        The uncompiled network with the weights of the epoch best on validation; a row of figures
        per epoch; the seconds that the fit alone took.

    Raises:
        PipelineError: the loss became infinite or no number.
    """
    keras = start_keras()
    network = NETWORKS[params.model]
    epochs = params.epochs or network.epochs
    model = compiled(keras, network, params, len(training.class_names))
    keep_best = keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=epochs, restore_best_weights=True)
    rows: list[dict[str, float]] = []

    def end_epoch(epoch: int, logs: dict[str, float]) -> None:
        renamed = {name.replace("val_", "validation_"): value for name, value in logs.items()}
        rows.append({"epoch": epoch + 1} | {name: renamed[name] for name in FIGURES})
        if not sys.stdout.isatty():  # where Keras draws no progress bar
            print(
                f"epoch {epoch + 1}/{epochs}  " + "  ".join(f"{name} {rows[-1][name]:.4f}" for name in FIGURES),
                flush=True,
            )
        report_epoch(rows[-1])
        refuse_divergence(rows[-1], float(model.optimizer.learning_rate))

    start = time.perf_counter()
    model.fit(
        batches(training, params.batch_size or network.batch_size, shuffle_seed=params.seed),
        validation_data=batches(validation, EVALUATION_BATCH),
        epochs=epochs,
        callbacks=[keep_best, keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)],
        verbose=1 if sys.stdout.isatty() else 0,
        shuffle=False,  # `batches` did
    )
    seconds = time.perf_counter() - start
    kept = type(model).from_config(model.get_config())  # without the optimizer, which nothing after this needs
    kept.set_weights(model.get_weights())
    return kept, rows, seconds


def compiled(keras: Any, network: Network, params: TrainParams, classes: int) -> Any:
    """A new network, seeded and ready for a deterministic fit."""
    import tensorflow as tf

    keras.utils.clear_session()  # layer names count from 1 again, so equal trainings give equal files
    keras.utils.set_random_seed(params.seed)
    tf.config.experimental.enable_op_determinism()
    model = network.build(classes)
    model.compile(
        optimizer=keras.optimizers.Adam(params.learning_rate or network.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_CALL,
    )
    return model


def refuse_divergence(row: dict[str, float], learning_rate: float) -> None:
    """Raise `PipelineError` where the epoch's loss is infinite or no number."""
    if not math.isfinite(row["loss"]):
        raise PipelineError(
            f"the loss became {row['loss']} in epoch {row['epoch']} at train.learning_rate {learning_rate:g}: training "
            "diverged. Lower train.learning_rate in params.yaml, then run `dvc repro`."
        )


def batches(split: Split, size: int, shuffle_seed: int | None = None) -> Any:
    """A tf.data.Dataset of (uint8 (size, 32, 32, 3), uint8 (size,)), in another order each epoch where a seed is given.

    Images stay bytes in memory. The tuner is off, since an epoch's end would wait for its next
    wake-up (seconds).
    """
    import tensorflow as tf

    images, labels = tf.constant(split.images), tf.constant(split.labels)
    order = tf.data.Dataset.range(len(split.labels))
    if shuffle_seed is not None:
        order = order.shuffle(len(split.labels), seed=shuffle_seed)
    options = tf.data.Options()
    options.autotune.enabled = False
    take = order.batch(size).map(lambda chosen: (tf.gather(images, chosen), tf.gather(labels, chosen)))
    return take.prefetch(2).with_options(options)


if __name__ == "__main__":
    run_stage(train, TrainParams)
