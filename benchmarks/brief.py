"""The textbook script, as users write it: what everything is compared with.

Float64 arrays, batch 32, the test set as validation set. python -m benchmarks.brief ARCHIVE EPOCHS
prints JSON: seconds of the fit, images per second, test accuracy.
"""

import json
import sys
import time
from pathlib import Path

from pipeline.cifar10 import read_archive
from pipeline.keras_start import start_keras


def main(archive: Path, epochs: int) -> None:
    """Train and print the figures."""
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
    start = time.perf_counter()
    model.fit(x_train, y_train, epochs=epochs, validation_data=(x_test, y_test), verbose=0)
    seconds = time.perf_counter() - start
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    speed = epochs * len(x_train) / seconds
    print(json.dumps({"seconds": seconds, "images_per_second": speed, "accuracy": accuracy}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
