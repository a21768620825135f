"""The fit of a script that validates on the test split after each epoch, timed as its user sees it."""

import time
from typing import TYPE_CHECKING

from benchmarks.flops import training_flops
from pipeline.common.files import Json

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf


def timed_fit(
    model: "keras.Model",
    training: "tf.data.Dataset | tuple[np.ndarray, np.ndarray]",
    test: "tuple[np.ndarray, np.ndarray]",
    images: int,
    epochs: int,
) -> Json:
    """Train a compiled float32 network; return the figures of its row.

    Args:
        images: number of training images.
    """
    import keras

    curve = []

    def end_epoch(epoch: int, logs: dict[str, float]) -> None:
        curve.append({"seconds": time.perf_counter() - start, "accuracy": logs["val_accuracy"]})
        print(f"epoch {epoch + 1}/{epochs}  test accuracy {logs['val_accuracy']:.4f}", flush=True)

    monitor = keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)
    data = training if isinstance(training, tuple) else (training,)
    start = time.perf_counter()
    model.fit(*data, epochs=epochs, validation_data=test, verbose=0, callbacks=[monitor])
    seconds = time.perf_counter() - start
    return {
        "epochs": epochs,
        "seconds": seconds,
        "images_per_second": epochs * images / seconds,
        "accuracy": model.evaluate(*test, verbose=0)[1],
        "training_flops": training_flops(model),
        "precision": "float32",
        "curve": curve,
    }
