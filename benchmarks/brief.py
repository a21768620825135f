"""The textbook script, as users write it: the baseline of every comparison.

Float64 arrays, batches of 32, the test set as validation set: python -m benchmarks.brief ARCHIVE EPOCHS
prints JSON: seconds of the fit, images per second, test accuracy; seconds and test accuracy after each epoch.
"""

import json
import sys
from pathlib import Path

from benchmarks.timed_fit import timed_fit
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
    print(json.dumps(timed_fit(model, (x_train, y_train), (x_test, y_test), len(x_train), epochs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
