"""The fit: seeded and deterministic, on one device or on all GPUs, from the start or from a checkpoint."""

import math
import sys
import time
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from pipeline.common.errors import PipelineError
from pipeline.data.splits import Split
from pipeline.models.inference import predict
from pipeline.models.networks import NETWORKS
from pipeline.models.whitening import whiten
from pipeline.training import devices
from pipeline.training.batch_norm import with_fused_normalization
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.class_weight import balanced_class_weight
from pipeline.training.input_pipeline import EVALUATION_BATCH, steps_per_epoch, training_batches, validation_batches
from pipeline.training.settings import Schedule, TrainParams, augmentation_of, schedule_of

FIGURES = ("loss", "accuracy", "validation_loss", "validation_accuracy")  # of an epoch
IMAGES_PER_CALL = 400  # upper limit for one graph call, which runs several steps if batches are small
SMALLER_BATCHES = "Lower train.batch_size in params.yaml, then run `dvc repro`."


def fit(
    params: TrainParams,
    training: Split,
    validation: Split,
    end_epoch: Callable[[Checkpoint], None] = lambda checkpoint: None,
    checkpoint: Checkpoint | None = None,
) -> tuple[keras.Model, list[dict[str, float]], float]:
    """Train a network from the start, or continue from `checkpoint` with the same result.

    Args:
        end_epoch: called after each epoch.

    Returns:
        The uncompiled network with the weights of the epoch with the best validation accuracy; a
        row of figures per epoch; the seconds that the fit took.

    Raises:
        PipelineError: the loss became infinite or NaN; a batch is larger than the data or the memory.
    """
    network, schedule = NETWORKS[params.model], schedule_of(params)
    build = partial(network.build, len(training.class_names), training.side)
    epochs, size = schedule.epochs, schedule.batch_size
    if size > len(training.labels):
        raise PipelineError(
            f"a batch is {size} images, but there are only {len(training.labels)} training images. {SMALLER_BATCHES}"
        )
    steps = steps_per_epoch(len(training.labels), size)
    model = compiled(build, network.optimizer, schedule, params.seed, steps)
    if checkpoint:
        set_state(model, checkpoint.state)
    else:
        whiten(model, training.images)
    monitor = TrainingMonitor(checkpoint or Checkpoint([], 0.0, [], []), end_epoch)
    try:
        model.fit(
            training_batches(training, size, augmentation_of(params), params.seed, range(len(monitor.rows), epochs)),
            validation_data=validation_batches(validation),
            initial_epoch=len(monitor.rows),
            epochs=epochs,
            class_weight=balanced_class_weight(training.labels) if params.class_weight else None,
            steps_per_epoch=steps,
            callbacks=[monitor],
            verbose=1 if sys.stdout.isatty() else 0,
            shuffle=False,  # training_batches shuffles; otherwise Keras warns
        )
    except tf.errors.ResourceExhaustedError:
        raise PipelineError(f"a batch of {size} images does not fit into memory. {SMALLER_BATCHES}") from None
    seconds = monitor.seconds()
    return network.finish(best_model(build, monitor.best)), monitor.rows, seconds


class TrainingMonitor(keras.callbacks.Callback):
    """Collects figures and the best weights, calls `end_epoch`, and stops a training that diverges."""

    def __init__(self, checkpoint: Checkpoint, end_epoch: Callable[[Checkpoint], None]) -> None:
        super().__init__()
        self.rows, self.best = list(checkpoint.rows), checkpoint.best
        self._end_epoch = end_epoch
        self._start = time.perf_counter() - checkpoint.seconds

    def seconds(self) -> float:
        """Seconds of training so far, with those before the checkpoint."""
        return time.perf_counter() - self._start

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self._refuse_divergence(logs["loss"], len(self.rows) + 1, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._refuse_divergence(logs["val_loss"], epoch + 1, self.params["steps"])
        figures = {name.replace("val_", "validation_"): value for name, value in logs.items()}
        row = {"epoch": epoch + 1} | {name: figures[name] for name in FIGURES}
        self.rows.append(row)
        if is_best := best_row(self.rows) is row:
            self.best = []  # frees memory for the copies
        state = get_state(self.model)
        if is_best:
            values = dict(zip(map(id, _variables(self.model)), state, strict=True))
            self.best = [values[id(weight)] for weight in self.model.weights]  # not copied again
        if not sys.stdout.isatty():  # Keras draws a progress bar on a terminal
            shown = "  ".join(f"{name} {row[name]:.4f}" for name in FIGURES)
            print(f"epoch {row['epoch']}/{self.params['epochs']}  {shown}", flush=True)
        if len(devices.names()) > 1:
            set_state(self.model, state)  # until here each device has its own statistics of batch normalization
        self._end_epoch(Checkpoint(self.rows, self.seconds(), state, self.best))

    def _refuse_divergence(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            rate = float(self.model.optimizer.learning_rate)
            raise PipelineError(
                f"the loss became {loss} in epoch {epoch} by step {step} of {self.params['steps']}, where the learning "
                f"rate is {rate:.3g}: training diverged. "
                "Lower train.learning_rate in params.yaml, then run `dvc repro`."
            )


def best_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """The row with the highest validation accuracy; the first one if several are equal."""
    return max(rows, key=lambda row: row["validation_accuracy"])


def compiled(
    build: Callable[[], keras.Model],
    optimizer_of: Callable[[float, int], keras.Optimizer],
    schedule: Schedule,
    seed: int,
    steps: int,
) -> keras.Model:
    """A new network with its optimizer, seeded and ready for a deterministic fit with `steps` steps per epoch."""
    keras.utils.clear_session()  # layer names count from 1 again, so equal trainings give equal files
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(devices.precision())
    strategy = devices.strategy()
    is_single = strategy.num_replicas_in_sync == 1
    with strategy.scope():
        model = with_fused_normalization(build())
        optimizer = optimizer_of(schedule.learning_rate, schedule.epochs * steps)
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer=optimizer,
            loss="categorical_crossentropy",
            metrics=["accuracy"],
            # Several steps per call crash on several devices (Keras 3.15).
            steps_per_execution=steps_per_call(steps, schedule.batch_size) if is_single else 1,
            jit_compile=False,  # XLA halves the speed on a CPU
        )
    return model


def steps_per_call(steps: int, size: int) -> int:
    """The largest divisor of `steps` that keeps a call small; Keras would overrun the epoch with other numbers."""
    most = max(1, IMAGES_PER_CALL // size)
    return max(number for number in range(1, most + 1) if steps % number == 0)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Everything that changes during training, with the seeds of dropout layers."""
    return [*model.variables, *model.optimizer.variables]


def get_state(model: keras.Model) -> list[np.ndarray]:
    """Values of the variables of the model and its optimizer."""
    return [keras.ops.convert_to_numpy(variable) for variable in _variables(model)]


def set_state(model: keras.Model, values: list[np.ndarray]) -> None:
    """Restore what `get_state` returned for the same network."""
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def best_model(build: Callable[[], keras.Model], weights: list[np.ndarray]) -> keras.Model:
    """The network with these weights in float32, without an optimizer."""
    keras.utils.clear_session()
    keras.config.set_dtype_policy("float32")
    model = build()
    model.set_weights(weights)
    return model


def accuracy_and_loss(model: keras.Model, split: Split) -> tuple[float, float]:
    """Accuracy, and mean cross-entropy in nats, of a network on a split."""
    probabilities = predict(model, split.images, EVALUATION_BATCH)
    of_label = probabilities[np.arange(len(split.labels)), split.labels].astype(np.float64)
    accuracy = np.mean(probabilities.argmax(axis=1) == split.labels)
    return float(accuracy), float(-np.mean(np.log(np.maximum(of_label, 1e-30))))


def training_figures(model: keras.Model, rows: list[dict[str, float]], validation: Split) -> dict[str, float]:
    """The figures of train.json: those of the network that `fit` returned, and of its epochs."""
    accuracy, loss = accuracy_and_loss(model, validation)
    return {
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "best_epoch": best_row(rows)["epoch"],
        "epochs": len(rows),
    }
