"""The networks and their training settings. To add one, write a function and an entry in `NETWORKS`.

Input of a network: uint8 (n, side, side, 3), RGB, 0 to 255, side 16 to 128; scaling is its first layer. Output:
float32 (n, classes), probabilities. Shapes in comments are those of side 32. docs/training.md measures the effect of
each ingredient.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pipeline.data.cifar10 import CHANNELS
from pipeline.models.whitening import whitening

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
    mirrored: bool = False  # the finished network takes the mean of its logits for image and mirror image

    def finish(self, model: "keras.Model") -> "keras.Model":
        """The network that is evaluated and exported, of a trained one, with its weights."""
        return averaged_over_mirror_images(model) if self.mirrored else model


def averaged_over_mirror_images(model: "keras.Model") -> "keras.Model":
    """A network with the mean of the logits of an image and of its mirror image; it ends with a copy of the Dense layer.

    The last layer is linear up to its softmax, so the mean of its inputs gives the mean of its logits. All other
    weights are those of `model`, also when they change.
    """
    import keras
    from keras import layers, ops

    image, last = layers.Input(model.input.shape[1:], dtype="uint8", name="image"), model.layers[-1]
    body = keras.Model(model.inputs, last.input, name="features")
    both = body(ops.concatenate([image, image[:, :, ::-1]]))  # (2 n, features)
    mean = ops.mean(ops.reshape(both, (2, -1, last.input.shape[-1])), axis=0)
    own = type(last).from_config(last.get_config())  # in both networks, its input would be that of the trained one
    finished = keras.Model(image, own(mean), name=model.name)
    own.set_weights(last.get_weights())
    return finished


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
    """Three narrow blocks of two convolutions: 843,392 weights for 10 classes."""
    return _blocks("fast", classes, side, (32, 112, 224))


def accurate(classes: int, side: int) -> "keras.Model":
    """Three wide blocks of two convolutions: 3,152,864 weights for 10 classes."""
    return _blocks("accurate", classes, side, (96, 320, 320))


def best(classes: int, side: int) -> "keras.Model":
    """Three wide residual blocks of three convolutions: 9,921,824 weights for 10 classes."""
    return _blocks("best", classes, side, (128, 384, 512), residual=True)


def _blocks(name: str, classes: int, side: int, widths: tuple[int, ...], residual: bool = False) -> "keras.Model":
    """Keller Jordan's network without trained biases: a whitening convolution, then blocks that halve the resolution.

    Source: arXiv 2404.00498; `residual` is its airbench96.
    """
    import keras
    from keras import layers

    image = layers.Input((side, side, CHANNELS), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 64, offset=-1.9)(image)  # about mean 0, deviation 1
    x = layers.ReLU()(whitening()(x))  # (n, 31, 31, 24)
    for width in widths:  # (n, 15, 15, width), then 7 x 7, then 3 x 3
        x = _convolution(x, width, pool=True)
        y = _convolution(x, width)
        x = layers.Add()([x, _convolution(y, width)]) if residual else y
    x = layers.Rescaling(1 / 9)(layers.GlobalMaxPooling2D()(x))  # smaller logits: a step changes them less
    return with_dirac_init(keras.Model(image, _probabilities(x, classes), name=name))


def _convolution(x: "keras.KerasTensor", width: int, pool: bool = False) -> "keras.KerasTensor":
    """Convolution 3x3, maximum pooling by 2 if `pool`, batch normalization, ReLU."""
    from keras import initializers, layers

    small = initializers.VarianceScaling(1 / 3, distribution="uniform")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=small)(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)  # before the normalization, which then takes a quarter of the time
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


def muon_of_fixed_norm(learning_rate: float, steps: int) -> "keras.Optimizer":
    """The same with kernels of fixed norm, which only turn, and with a shorter memory of gradients."""
    from pipeline.models.muon import Muon, OneCycle

    return Muon(OneCycle(learning_rate, steps), momentum=0.6, adam_share=0.15, fixed_norm=True, weight_decay=0.1)


NETWORKS = {
    "basic": Network(basic, muon, epochs=6, batch_size=128, learning_rate=0.03),
    "fast": Network(
        fast,
        muon_of_fixed_norm,
        epochs=7,
        batch_size=500,
        learning_rate=0.1,
        augmentation=Augmentation(True, shift=2, smoothing=0.2),
    ),
    "accurate": Network(
        accurate,
        muon_of_fixed_norm,
        epochs=10,
        batch_size=250,
        learning_rate=0.07,
        augmentation=Augmentation(True, shift=3, cutout=6, smoothing=0.2),
        mirrored=True,
    ),
    "best": Network(
        best,
        muon_of_fixed_norm,
        epochs=24,
        batch_size=250,
        learning_rate=0.06,
        augmentation=Augmentation(True, shift=4, cutout=10, smoothing=0.2),
        mirrored=True,
    ),
}
