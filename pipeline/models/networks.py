"""The networks and their training settings. To add one, write a function and an entry in `NETWORKS`.

Input of a network: uint8 (n, side, side, 3), RGB, 0 to 255, side 16 to 128; scaling is its first layer. Output:
float32 (n, classes), probabilities. Shapes in comments are those of side 32. docs/training.md measures the effect of
each ingredient.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pipeline.data.cifar10 import CHANNELS

if TYPE_CHECKING:
    import keras


class Augmentation(NamedTuple):
    """Random changes to training images and labels; the default is none.

    Pixels are those of a picture of 32 x 32 pixels; `scaled_to` gives the same share of another side.
    """

    flip: bool = False  # horizontally: a random half of the images in odd epochs, the other half in even epochs
    shift: int = 0  # pixels; upper limit, in both directions of both axes
    cutout: int = 0  # pixels; side of a square that is filled with grey
    smoothing: float = 0.0  # label smoothing: share of a label that is spread evenly over all classes

    def scaled_to(self, side: int) -> "Augmentation":
        """The same augmentation, its lengths in pixels of images with this side."""
        return self._replace(shift=round(self.shift * side / 32), cutout=round(self.cutout * side / 32))


class Network(NamedTuple):
    """How to build a network, and its training settings, which params.yaml can replace."""

    build: Callable[[int, int], "keras.Model"]  # arguments: number of classes, height and width of the images
    optimizer: Callable[[float, int], "keras.Optimizer"]  # arguments: learning rate, number of steps
    epochs: int
    batch_size: int
    learning_rate: float  # the highest of the schedule
    augmentation: Augmentation = Augmentation()


def basic(classes: int, side: int) -> "keras.Model":
    """The convolutional network of TensorFlow's CIFAR-10 tutorial: 122,570 weights for 10 classes, side 32.

    Source: https://www.tensorflow.org/tutorials/images/cnn
    """
    from keras import Sequential, layers

    padding = "valid" if side > 17 else "same"  # of the third convolution, whose input has 2 x 2 pixels at side 16
    return Sequential(
        [
            layers.Input((side, side, CHANNELS), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),  # (n, 32, 32, 3), 0 to 1
            layers.Conv2D(32, 3, activation="relu"),  # (n, 30, 30, 32)
            layers.MaxPooling2D(2),  # (n, 15, 15, 32)
            layers.Conv2D(64, 3, activation="relu"),  # (n, 13, 13, 64)
            layers.MaxPooling2D(2),  # (n, 6, 6, 64)
            layers.Conv2D(64, 3, padding=padding, activation="relu"),  # (n, 4, 4, 64)
            layers.Flatten(),  # (n, 1024)
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities"),
        ],
        name="basic",
    )


def fast(classes: int, side: int) -> "keras.Model":
    """Five convolutions at half the image resolution and below: 540,448 weights for 10 classes."""
    import keras
    from keras import layers

    image = layers.Input((side, side, CHANNELS), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 64, offset=-1.9)(image)  # about mean 0, deviation 1
    x = _convolution(x, 32, size=4, strides=2)  # (n, 16, 16, 32)
    x = _convolution(x, 64, pool=layers.AveragePooling2D)  # (n, 8, 8, 64)
    x = _convolution(x, 128, pool=layers.MaxPooling2D)  # (n, 4, 4, 128)
    x = _convolution(x, 128)
    x = _convolution(x, 256, pool=layers.MaxPooling2D)  # (n, 2, 2, 256)
    x = layers.GlobalAveragePooling2D()(x)  # (n, 256)
    return with_dirac_init(keras.Model(image, _probabilities(x, classes), name="fast"))


def accurate(classes: int, side: int) -> "keras.Model":
    """David Page's ResNet-9, but narrower and one block deeper: 4,365,888 weights for 10 classes.

    Source: https://myrtle.ai/learn/how-to-train-your-resnet
    """
    import keras
    from keras import layers

    image = layers.Input((side, side, CHANNELS), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 64, offset=-1.9)(image)  # about mean 0, deviation 1
    x = _convolution(x, 48)  # (n, 32, 32, 48)
    x = _residual(_convolution(x, 96, pool=layers.MaxPooling2D))  # (n, 16, 16, 96)
    x = _residual(_convolution(x, 192, pool=layers.MaxPooling2D))  # (n, 8, 8, 192)
    x = _residual(_convolution(x, 384, pool=layers.MaxPooling2D))  # (n, 4, 4, 384)
    x = layers.Dropout(0.3)(layers.GlobalMaxPooling2D()(x))  # (n, 384)
    x = layers.Rescaling(1 / 8)(x)  # smaller logits: a step of the optimizer changes them less
    return with_dirac_init(keras.Model(image, _probabilities(x, classes), name="accurate"))


def _residual(x: "keras.KerasTensor") -> "keras.KerasTensor":
    """Residual block of two convolutions (arXiv 1512.03385)."""
    from keras import layers

    width = x.shape[-1]
    return layers.Add()([x, _convolution(_convolution(x, width), width)])


def _convolution(
    x: "keras.KerasTensor", width: int, size: int = 3, strides: int = 1, pool: "type[keras.Layer] | None" = None
) -> "keras.KerasTensor":
    """Convolution, pooling by 2 if `pool` is given, batch normalization, ReLU."""
    from keras import initializers, layers

    small = initializers.VarianceScaling(1 / 3, distribution="uniform")
    x = layers.Conv2D(width, size, strides, padding="same", use_bias=False, kernel_initializer=small)(x)
    if pool:
        x = pool(2)(x)  # before the normalization, which then takes a quarter of the time
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9, scale=False)(x))


def with_dirac_init(model: "keras.Model") -> "keras.Model":
    """The same network with Dirac initialization of its 3x3 convolutions (arXiv 2404.00498).

    The first output channels copy the input channels. The other channels keep their random kernels.
    """
    from keras import layers

    for layer in model.layers:
        if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
            kernel = layer.kernel.numpy()  # (3, 3, input channels, output channels)
            channels = kernel.shape[2]
            kernel[..., :channels] = 0
            kernel[1, 1, range(channels), range(channels)] = 1
            layer.kernel.assign(kernel)
    return model


def _probabilities(x: "keras.KerasTensor", classes: int) -> "keras.KerasTensor":
    from keras import layers

    return layers.Dense(classes, use_bias=False, activation="softmax", dtype="float32", name="probabilities")(x)


def muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """Muon with weight decay and the one-cycle schedule."""
    from pipeline.models.muon import Muon, OneCycle

    return Muon(OneCycle(learning_rate, steps), weight_decay=0.1)


NETWORKS = {
    "basic": Network(basic, muon, epochs=6, batch_size=128, learning_rate=0.03),
    "fast": Network(
        fast,
        muon,
        epochs=9,
        batch_size=250,
        learning_rate=0.035,
        augmentation=Augmentation(True, shift=2, smoothing=0.1),
    ),
    "accurate": Network(
        accurate,
        muon,
        epochs=32,
        batch_size=250,
        learning_rate=0.015,
        augmentation=Augmentation(True, shift=4, cutout=12, smoothing=0.1),
    ),
}
