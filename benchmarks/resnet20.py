"""ResNet20v1 of Keras' example, in its first epochs: a peer that is known to reach 92.16 % after 200 epochs.

Source: https://github.com/keras-team/keras/blob/2.2.4/examples/cifar10_resnet.py, written again for Keras 3.
Batches of 32, Adam at 0.001, shifts by 10 % and flips, the test set as validation set:
python -m benchmarks.resnet20 ARCHIVE EPOCHS prints JSON: seconds of the fit, images per second, test accuracy; seconds
and test accuracy after each epoch.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.timed_fit import timed_fit
from pipeline.data.archive import read_archive
from pipeline.models.keras_backend import start_keras

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

EPOCHS = 2  # of the benchmark
BATCH = 32
BLOCKS = 3  # of each of the three widths


def main(archive: Path, epochs: int) -> None:
    """Train the network and print the figures."""
    keras = start_keras()
    data = read_archive(archive)
    x_train, x_test = data.train_images.astype("float32") / 255, data.test_images.astype("float32") / 255
    mean = x_train.mean(axis=0)
    keras.utils.set_random_seed(0)
    model = resnet20(len(data.class_names))
    optimizer = keras.optimizers.Adam(0.001)  # the example lowers the rate after epoch 80
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = augmented(x_train - mean, data.train_labels)
    print(json.dumps(timed_fit(model, batches, (x_test - mean, data.test_labels), len(x_train), epochs)))


def augmented(images: "np.ndarray", labels: "np.ndarray") -> "tf.data.Dataset":
    """Shuffled batches with random flips, and shifts by up to 10 % in both directions."""
    import tensorflow as tf
    from keras import Sequential, layers

    change = Sequential([layers.RandomFlip("horizontal"), layers.RandomTranslation(0.1, 0.1, fill_mode="nearest")])
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images)).batch(BATCH)
    changed = batches.map(lambda x, y: (change(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    return changed.prefetch(tf.data.AUTOTUNE)


def resnet20(classes: int) -> "keras.Model":
    """ResNet20 of arXiv 1512.03385 in Keras' version 1: 16, 32 and 64 channels, 1x1 convolutions at both changes."""
    import keras
    from keras import layers

    image = layers.Input((32, 32, 3))
    x = layers.ReLU()(convolution(image, 16))
    for width in (16, 32, 64):
        for block in range(BLOCKS):
            strides = 2 if block == 0 and width > 16 else 1
            y = layers.ReLU()(convolution(x, width, strides=strides))
            y = convolution(y, width)
            if strides > 1:
                x = convolution(x, width, 1, strides, normalized=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(image, layers.Dense(classes, activation="softmax", kernel_initializer="he_normal")(x))


def convolution(
    x: "keras.KerasTensor", width: int, size: int = 3, strides: int = 1, normalized: bool = True
) -> "keras.KerasTensor":
    """Convolution with the example's initialization and weight decay, and batch normalization."""
    from keras import layers, regularizers

    decay = regularizers.L2(0.0001)
    x = layers.Conv2D(width, size, strides, "same", kernel_initializer="he_normal", kernel_regularizer=decay)(x)
    return layers.BatchNormalization()(x) if normalized else x


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
