"""The fit: seeded, deterministic, on one device or on all GPUs, from scratch or from a checkpoint."""

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from pipeline import devices
from pipeline.batches import EVALUATION_BATCH, steps_per_epoch, training_batches, validation_batches
from pipeline.checkpoint import Checkpoint
from pipeline.errors import PipelineError
from pipeline.models import NETWORKS, Network
from pipeline.normalization import with_fused_normalization
from pipeline.splits import Split

if TYPE_CHECKING:
    from pipeline.train import TrainParams

FIGURES = ("loss", "accuracy", "validation_loss", "validation_accuracy")  # of an epoch
IMAGES_PER_CALL = 1280  # at most, in one graph call: several steps where batches are small
SMALLER_BATCHES = "Lower train.batch_size in params.yaml, then run `dvc repro`."


def fit(
    params: "TrainParams",
    training: Split,
    validation: Split,
    end_epoch: Callable[[Checkpoint], None] = lambda checkpoint: None,
    begun: Checkpoint | None = None,
) -> tuple[keras.Model, list[dict[str, float]], float]:
    """Train a network from scratch, or from where `begun` was to the same end.

    Args:
        end_epoch: is called after each epoch.

    Returns:
        The uncompiled network with the weights of the epoch best on validation; a row of figures
        per epoch; the seconds that the fit alone took.

    Raises:
        PipelineError: the loss became infinite or no number; a batch is more than the images, or than memory holds.
    """
    network, classes = NETWORKS[params.model], len(training.class_names)
    epochs, size = params.epochs or network.epochs, params.batch_size or network.batch_size
    if size > len(training.labels):
        raise PipelineError(
            f"a batch is {size} images, but there are {len(training.labels)} to train on. {SMALLER_BATCHES}"
        )
    steps = steps_per_epoch(len(training.labels), size)
    model = compiled(params, classes, steps, epochs * steps)
    if begun:
        set_state(model, begun.state)
    watch = Watch(begun or Checkpoint([], 0.0, [], []), end_epoch)
    try:
        model.fit(
            training_batches(training, size, network.augmentation, params.seed, range(len(watch.rows), epochs)),
            validation_data=validation_batches(validation),
            initial_epoch=len(watch.rows),
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=[watch],
            verbose=1 if sys.stdout.isatty() else 0,
            shuffle=False,  # training_batches did; Keras warns otherwise
        )
    except tf.errors.ResourceExhaustedError:
        raise PipelineError(f"memory does not hold a batch of {size} images. {SMALLER_BATCHES}") from None
    seconds = watch.seconds()
    return kept(network, classes, watch.best), watch.rows, seconds


class Watch(keras.callbacks.Callback):
    """Collects the figures and the best weights, tells each epoch's end, and stops a training that diverges."""

    def __init__(self, begun: Checkpoint, end_epoch: Callable[[Checkpoint], None]) -> None:
        super().__init__()
        self.rows, self.best = list(begun.rows), begun.best
        self._end_epoch = end_epoch
        self._start = time.perf_counter() - begun.seconds

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self._refuse_divergence(logs["loss"], len(self.rows) + 1, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self._refuse_divergence(logs["val_loss"], epoch + 1, self.params["steps"])
        figures = {name.replace("val_", "validation_"): value for name, value in logs.items()}
        row = {"epoch": epoch + 1} | {name: figures[name] for name in FIGURES}
        self.rows.append(row)
        if best_row(self.rows) is row:
            self.best = self.model.get_weights()
        if not sys.stdout.isatty():  # where Keras draws no progress bar
            shown = "  ".join(f"{name} {row[name]:.4f}" for name in FIGURES)
            print(f"epoch {row['epoch']}/{self.params['epochs']}  {shown}", flush=True)
        state = state_of(self.model)
        set_state(self.model, state)  # several devices have normalisation's statistics of their own until here
        self._end_epoch(Checkpoint(self.rows, self.seconds(), state, self.best))

    def _refuse_divergence(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            rate = float(self.model.optimizer.learning_rate)
            raise PipelineError(
                f"the loss became {loss} in epoch {epoch} by step {step} of {self.params['steps']}, where the learning "
                f"rate is {rate:.3g}: training diverged. Lower train.learning_rate in params.yaml, then run `dvc repro`."
            )


def best_row(rows: list[dict[str, float]]) -> dict[str, float]:
    """The row of the highest validation accuracy; of equals, the first."""
    return max(rows, key=lambda row: row["validation_accuracy"])


def compiled(params: "TrainParams", classes: int, steps: int, all_steps: int) -> keras.Model:
    """A new network with its optimizer built, seeded and ready for a deterministic fit of so many steps."""
    network = NETWORKS[params.model]
    keras.utils.clear_session()  # layer names count from 1 again, so equal trainings give equal files
    keras.utils.set_random_seed(params.seed)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(devices.precision())
    several = devices.strategy()
    with several.scope():
        model = with_fused_normalization(network.build(classes))
        optimizer = network.optimizer(params.learning_rate or network.learning_rate, all_steps)
        optimizer.build(model.trainable_variables)
        model.compile(
            optimizer=optimizer,
            loss="categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=steps_per_call(steps, params.batch_size or network.batch_size)
            if several.num_replicas_in_sync == 1
            else 1,  # more crashes there (Keras 3.15)
            jit_compile=False,  # XLA halves the speed on a CPU
        )
    return model


def steps_per_call(steps: int, size: int) -> int:
    """A divisor of `steps`, since Keras would go past an epoch's end, with which a call takes few enough images."""
    most = max(1, IMAGES_PER_CALL // size)
    return max(number for number in range(1, most + 1) if steps % number == 0)


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that changes in training, the seeds of dropout layers too."""
    return [*model.variables, *model.optimizer.variables]


def state_of(model: keras.Model) -> list[np.ndarray]:
    """Values of the model's and its optimizer's variables."""
    return [keras.ops.convert_to_numpy(variable) for variable in _variables(model)]


def set_state(model: keras.Model, values: list[np.ndarray]) -> None:
    """Go back to what `state_of` gave for the same network."""
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def kept(network: Network, classes: int, weights: list[np.ndarray]) -> keras.Model:
    """The network with these weights, without the optimizer, which nothing after this needs."""
    keras.utils.clear_session()
    keras.config.set_dtype_policy("float32")
    model: Any = network.build(classes)
    model.set_weights(weights)
    return model


def score(model: keras.Model, split: Split) -> tuple[float, float]:
    """Accuracy, and mean cross-entropy in nats, of a network on a split."""
    probabilities = model.predict(split.images, batch_size=EVALUATION_BATCH, verbose=0)
    of_label = probabilities[np.arange(len(split.labels)), split.labels].astype(np.float64)
    accuracy = np.mean(probabilities.argmax(axis=1) == split.labels)
    return float(accuracy), float(-np.mean(np.log(np.maximum(of_label, 1e-30))))


def kept_figures(model: keras.Model, rows: list[dict[str, float]], validation: Split) -> dict[str, float]:
    """What train.json says of a training: the figures of the network that `fit` returned, and of its epochs."""
    accuracy, loss = score(model, validation)
    return {
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "best_epoch": best_row(rows)["epoch"],
        "epochs": len(rows),
    }
