"""What the benchmark trains: the project's networks, and `fast` with one thing changed at a time.

A name of `VARIANTS` gives a Network. docs/training.md shows what each change does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline import models
from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.models import NETWORKS, Network

if TYPE_CHECKING:
    import keras

FAST = NETWORKS["fast"]


def built_otherwise(
    classes: int,
    activation: str = "relu",
    first_pool: str = "AveragePooling2D",
    last_pool: str = "GlobalAveragePooling2D",
    normalised: bool = True,
    residual: bool = False,
    sixth: bool = False,
    dropout: float = 0.0,
    stem: tuple[int, int] = (4, 2),
    initializer: str | None = None,
) -> "keras.Model":
    """`fast`, written out with its choices as arguments; the defaults are `fast` itself."""
    import keras
    from keras import initializers, layers

    kernels = initializer or initializers.VarianceScaling(1 / 3, distribution="uniform")

    def convolution(x: Any, width: int, size: int = 3, strides: int = 1, pool: str | None = None) -> Any:
        x = layers.Conv2D(width, size, strides, "same", use_bias=not normalised, kernel_initializer=kernels)(x)
        x = getattr(layers, pool)(2)(x) if pool else x
        x = layers.BatchNormalization(momentum=0.9, scale=False)(x) if normalised else x
        return layers.Activation(activation)(x)

    def second(x: Any) -> Any:
        more = convolution(x, x.shape[-1])
        return layers.Add()([x, more]) if residual else more

    image = layers.Input((SIDE, SIDE, CHANNELS), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 64, offset=-1.9)(image)
    x = convolution(x, 32, *stem)
    x = convolution(x, 64, pool=first_pool)
    x = second(convolution(x, 128, pool="MaxPooling2D"))
    x = convolution(x, 256, pool="MaxPooling2D")
    x = second(x) if sixth else x
    x = getattr(layers, last_pool)()(x)
    x = layers.Dropout(dropout)(x) if dropout else x
    x = layers.Dense(classes, use_bias=False, activation="softmax", dtype="float32", name="probabilities")(x)
    model = keras.Model(image, x, name="fast")
    return model if initializer else models.passing_on(model)


def in_float32(classes: int) -> "keras.Model":
    """`fast` computed in float32, also where the device has instructions for bfloat16."""
    import keras

    keras.config.set_dtype_policy("float32")
    return models.fast(classes)


def optimizer(name: str, **settings: Any) -> Callable[[float, int], "keras.Optimizer"]:
    """A Keras optimizer, or the project's Muon, with one cycle of the learning rate."""

    def make(learning_rate: float, steps: int) -> "keras.Optimizer":
        import keras

        from pipeline.muon import Muon, OneCycle

        kind = Muon if name == "Muon" else getattr(keras.optimizers, name)
        return kind(OneCycle(learning_rate, steps), **settings)

    return make


def averaging_muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """Muon whose weights are replaced, after the last step, by their moving average over about 50 steps."""
    make = optimizer("Muon", weight_decay=0.1, use_ema=True, ema_momentum=0.98, ema_overwrite_frequency=steps)
    return make(learning_rate, steps)


def constant_muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """Muon without a schedule."""
    from pipeline.muon import Muon

    return Muon(learning_rate, weight_decay=0.1)


def _network(**changes: Any) -> Network:
    return FAST._replace(build=lambda classes: built_otherwise(classes, **changes))


def _augmented(**changes: Any) -> Network:
    return FAST._replace(augmentation=FAST.augmentation._replace(**changes))


CHANGES = {
    "no flips": _augmented(flip=False),
    "no shifts": _augmented(shift=0),
    "shifts by 1 pixel": _augmented(shift=1),
    "cutout of 8 pixels": _augmented(cutout=8),
    "no label smoothing": _augmented(smoothing=0.0),
    "Adam, one cycle to 0.003": FAST._replace(optimizer=optimizer("Adam"), learning_rate=0.003),
    "Nesterov SGD, one cycle to 0.2, weight decay": FAST._replace(
        optimizer=optimizer("SGD", momentum=0.9, nesterov=True, weight_decay=0.0005), learning_rate=0.2
    ),
    "Muon at a constant 0.01": FAST._replace(optimizer=constant_muon, learning_rate=0.01),
    "weights averaged over the last 50 steps (EMA 0.98)": FAST._replace(optimizer=averaging_muon),
    "no weight decay": FAST._replace(optimizer=optimizer("Muon")),
    "no batch normalisation": _network(normalised=False),
    "maximum as first pooling": _network(first_pool="MaxPooling2D"),
    "maximum over the last map": _network(last_pool="GlobalMaxPooling2D"),
    "He initialisation, no identity": _network(initializer="he_normal"),
    "residual connections": _network(residual=True),
    "SiLU": _network(activation="silu"),
    "GELU": _network(activation="gelu"),
    "dropout of 0.2": _network(dropout=0.2),
    "first convolution 3x3": _network(stem=(3, 2)),
    "a sixth convolution, of 256 to 256 channels": _network(sixth=True),
    "batches of 500, rate 0.05": FAST._replace(batch_size=500, learning_rate=0.05),
    "float32 alone": FAST._replace(build=in_float32),
}
EXECUTIONS = {  # `fast` itself, where names of pipeline.fit have other values
    "Keras' own batch normalisation": {"with_fused_normalization": lambda model: model},
    "one step in a graph call": {"IMAGES_PER_CALL": 0},
}
CHANGES |= dict.fromkeys(EXECUTIONS, FAST)
VARIANTS = NETWORKS | CHANGES
