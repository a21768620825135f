"""The networks that the benchmark trains: those of the project, and `fast` with one change at a time.

`VARIANTS` maps a name to a Network. docs/training.md shows the effect of each change.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pipeline.data.cifar10 import CHANNELS
from pipeline.models import networks
from pipeline.models.networks import NETWORKS, Network

if TYPE_CHECKING:
    import keras

ABLATION_EPOCHS = 4
FAST = NETWORKS["fast"]
AUGMENTATION = FAST.augmentation


def fast_variant(
    classes: int,
    side: int,
    activation: str = "relu",
    first_pool: str = "AveragePooling2D",
    last_pool: str = "GlobalAveragePooling2D",
    normalized: bool = True,
    residual: bool = False,
    sixth: bool = False,
    dropout: float = 0.0,
    stem: tuple[int, int] = (4, 2),
    initializer: str | None = None,
) -> "keras.Model":
    """`fast` with its choices as arguments; the defaults are those of `fast`.

    Args:
        stem: size and stride of the first convolution.
    """
    import keras
    from keras import initializers, layers

    kernels = initializer or initializers.VarianceScaling(1 / 3, distribution="uniform")

    def convolution(
        x: "keras.KerasTensor", width: int, size: int = 3, strides: int = 1, pool: str | None = None
    ) -> "keras.KerasTensor":
        x = layers.Conv2D(width, size, strides, "same", use_bias=not normalized, kernel_initializer=kernels)(x)
        x = getattr(layers, pool)(2)(x) if pool else x
        x = layers.BatchNormalization(momentum=0.9, scale=False)(x) if normalized else x
        return layers.Activation(activation)(x)

    def second(x: "keras.KerasTensor") -> "keras.KerasTensor":
        y = convolution(x, x.shape[-1])
        return layers.Add()([x, y]) if residual else y

    image = layers.Input((side, side, CHANNELS), dtype="uint8", name="image")
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
    return model if initializer else networks.with_dirac_init(model)


def in_float32(classes: int, side: int) -> "keras.Model":
    """`fast` computed in float32, also on devices that support bfloat16."""
    import keras

    keras.config.set_dtype_policy("float32")
    return networks.fast(classes, side)


def one_cycle(name: str, **settings: float) -> Callable[[float, int], "keras.Optimizer"]:
    """A Keras optimizer, or the project's Muon, with one cycle of the learning rate."""

    def make(learning_rate: float, steps: int) -> "keras.Optimizer":
        import keras

        from pipeline.models.muon import Muon, OneCycle

        optimizer: Callable[..., keras.Optimizer] = Muon if name == "Muon" else getattr(keras.optimizers, name)
        return optimizer(OneCycle(learning_rate, steps), **settings)

    return make


def averaged_muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """Muon that ends with the moving average of the weights over about 50 steps."""
    make = one_cycle("Muon", weight_decay=0.1, use_ema=True, ema_momentum=0.98, ema_overwrite_frequency=steps)
    return make(learning_rate, steps)


def constant_muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """Muon without a schedule."""
    from pipeline.models.muon import Muon

    return Muon(learning_rate, weight_decay=0.1)


def _built(build: Callable[[int, int], "keras.Model"]) -> Network:
    return FAST._replace(build=build)


CHANGES = {
    "no flips": FAST._replace(augmentation=AUGMENTATION._replace(flip=False)),
    "no shifts": FAST._replace(augmentation=AUGMENTATION._replace(shift=0)),
    "shifts by 1 pixel": FAST._replace(augmentation=AUGMENTATION._replace(shift=1)),
    "cutout of 8 pixels": FAST._replace(augmentation=AUGMENTATION._replace(cutout=8)),
    "no label smoothing": FAST._replace(augmentation=AUGMENTATION._replace(smoothing=0.0)),
    "Adam, one cycle to 0.003": FAST._replace(optimizer=one_cycle("Adam"), learning_rate=0.003),
    "Nesterov SGD, one cycle to 0.2, weight decay": FAST._replace(
        optimizer=one_cycle("SGD", momentum=0.9, nesterov=True, weight_decay=0.0005), learning_rate=0.2
    ),
    "Muon at a constant 0.01": FAST._replace(optimizer=constant_muon, learning_rate=0.01),
    "weights averaged over the last 50 steps (EMA 0.98)": FAST._replace(optimizer=averaged_muon),
    "no weight decay": FAST._replace(optimizer=one_cycle("Muon")),
    "no batch normalization": _built(partial(fast_variant, normalized=False)),
    "maximum as first pooling": _built(partial(fast_variant, first_pool="MaxPooling2D")),
    "maximum over the last map": _built(partial(fast_variant, last_pool="GlobalMaxPooling2D")),
    "He initialization, no identity": _built(partial(fast_variant, initializer="he_normal")),
    "residual connections": _built(partial(fast_variant, residual=True)),
    "SiLU": _built(partial(fast_variant, activation="silu")),
    "GELU": _built(partial(fast_variant, activation="gelu")),
    "dropout of 0.2": _built(partial(fast_variant, dropout=0.2)),
    "first convolution 3x3": _built(partial(fast_variant, stem=(3, 2))),
    "a sixth convolution, of 256 to 256 channels": _built(partial(fast_variant, sixth=True)),
    "batches of 500, rate 0.05": FAST._replace(batch_size=500, learning_rate=0.05),
    "float32 only": _built(in_float32),
}
OVERRIDES: dict[str, dict[str, object]] = {  # `fast` itself, with other values of names in pipeline.training.fit
    "Keras' own batch normalization": {"with_fused_normalization": lambda model: model},
    "one step per graph call": {"IMAGES_PER_CALL": 0},
}
CHANGES |= dict.fromkeys(OVERRIDES, FAST)
VARIANTS = NETWORKS | CHANGES
