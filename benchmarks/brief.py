"""The textbook script, as users write it: the baseline of every comparison.

Float64 arrays, batches of 32, the test set as validation set: python -m benchmarks.brief ARCHIVE EPOCHS
prints JSON: seconds of the fit, images per second, test accuracy; seconds and test accuracy after each epoch.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.flops import training_flops
from pipeline.data.archive import read_archive
from pipeline.models.keras_backend import start_keras

EPOCHS = 10  # of the benchmark


def main(archive: Path, epochs: int) -> None:
    """Train the network and print the figures."""
    keras = start_keras()
    from keras import layers, models

    data = read_archive(archive)
    x_train, x_test = data.train_images / 255.0, data.test_images / 255.0
    y_train, y_test = data.train_labels, data.test_labels
    keras.utils.set_random_seed(0)
    model = models.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    curve = []

    def end_epoch(_: int, logs: dict[str, float]) -> None:
        curve.append({"seconds": time.perf_counter() - start, "accuracy": logs["val_accuracy"]})

    monitor = keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)
    start = time.perf_counter()
    model.fit(x_train, y_train, epochs=epochs, validation_data=(x_test, y_test), verbose=0, callbacks=[monitor])
    seconds = time.perf_counter() - start
    figures = {
        "seconds": seconds,
        "images_per_second": epochs * len(x_train) / seconds,
        "accuracy": model.evaluate(x_test, y_test, verbose=0)[1],
        "training_flops": training_flops(model),
        "precision": "float32",
        "curve": curve,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
