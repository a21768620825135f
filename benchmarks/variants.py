"""The networks that the benchmark trains: those of the project, and `fast` with one change at a time.

`VARIANTS` maps a name to a Network; those with "in float32" train as on a processor without bfloat16.
docs/training.md shows the effect of each change.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.data.cifar10 import CHANNELS
from pipeline.models import networks
from pipeline.models.networks import NETWORKS, Network
from pipeline.models.whitening import FILTERS, SIZE, whitening

if TYPE_CHECKING:
    import keras

ABLATION_EPOCHS = 3
FAST = NETWORKS["fast"]


def fast_variant(
    classes: int,
    side: int,
    activation: str = "relu",
    pool: str = "MaxPooling2D",
    last_pool: str = "GlobalMaxPooling2D",
    normalized: bool = True,
    residual: bool = False,
    dropout: float = 0.0,
    whitened: bool = True,
    logits: float = 1 / 9,
    initializer: str | None = None,
) -> "keras.Model":
    """`fast` with its choices as arguments; the defaults are those of `fast`.

    Args:
        residual: with a third convolution in each block, and the sum of the first and the third.
        whitened: False: the first convolution is trained as the others are.
        logits: factor before the last layer.
    """
    import keras
    from keras import initializers, layers

    kernels = initializer or initializers.VarianceScaling(1 / 3, distribution="uniform")

    def convolution(x: "keras.KerasTensor", width: int, pool: str | None = None) -> "keras.KerasTensor":
        x = layers.Conv2D(width, 3, padding="same", use_bias=not normalized, kernel_initializer=kernels)(x)
        x = getattr(layers, pool)(2)(x) if pool else x
        x = layers.BatchNormalization(momentum=0.9, scale=False)(x) if normalized else x
        return layers.Activation(activation)(x)

    image = layers.Input((side, side, CHANNELS), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 64, offset=-1.9)(image)
    first = whitening() if whitened else layers.Conv2D(FILTERS, SIZE, use_bias=False)
    x = layers.Activation(activation)(first(x))
    for width in (32, 112, 224):
        x = convolution(x, width, pool)
        y = convolution(x, width)
        x = layers.Add()([x, convolution(y, width)]) if residual else y
    x = layers.Rescaling(logits)(getattr(layers, last_pool)()(x))
    x = layers.Dropout(dropout)(x) if dropout else x
    x = layers.Dense(classes, use_bias=False, activation="softmax", dtype="float32", name="probabilities")(x)
    model = keras.Model(image, x, name="fast")
    return model if initializer else networks.with_dirac_init(model)


def one_cycle(name: str, **settings: float) -> Callable[[float, int], "keras.Optimizer"]:
    """A Keras optimizer, or the project's Muon, with one cycle of the learning rate."""

    def make(learning_rate: float, steps: int) -> "keras.Optimizer":
        import keras

        from pipeline.models.muon import Muon, OneCycle

        optimizer: Callable[..., keras.Optimizer] = Muon if name == "Muon" else getattr(keras.optimizers, name)
        return optimizer(OneCycle(learning_rate, steps), **settings)

    return make


def muon(learning_rate: float, steps: int, **changes: float) -> "keras.Optimizer":
    """The optimizer of `fast` with other arguments."""
    settings = {"momentum": 0.6, "adam_share": 0.15, "fixed_norm": True, "weight_decay": 0.1} | changes
    return one_cycle("Muon", **settings)(learning_rate, steps)


def averaged_muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """It ends with the moving average of the weights over about 50 steps."""
    return muon(learning_rate, steps, use_ema=True, ema_momentum=0.98, ema_overwrite_frequency=steps)


def constant_muon(learning_rate: float, steps: int) -> "keras.Optimizer":
    """Without a schedule."""
    from pipeline.models.muon import Muon

    return Muon(learning_rate, momentum=0.6, adam_share=0.15, fixed_norm=True, weight_decay=0.1)


def _built(**choices: Any) -> Network:
    return FAST._replace(build=partial(fast_variant, **choices))


def _augmented(**choices: Any) -> Network:
    return FAST._replace(augmentation=FAST.augmentation._replace(**choices))


CHANGES = {
    "no flips": _augmented(flip=False),
    "no shifts": _augmented(shift=0),
    "shifts by 4 pixels": _augmented(shift=4),
    "cutout of 8 pixels": _augmented(cutout=8),
    "no label smoothing": _augmented(smoothing=0.0),
    "Adam, one cycle to 0.003": FAST._replace(optimizer=one_cycle("Adam"), learning_rate=0.003),
    "Nesterov SGD, one cycle to 0.2, weight decay": FAST._replace(
        optimizer=one_cycle("SGD", momentum=0.9, nesterov=True, weight_decay=0.0005), learning_rate=0.2
    ),
    "Muon with kernels of free norm, rate 0.05": FAST._replace(optimizer=networks.muon, learning_rate=0.05),
    "Muon with momentum 0.9, rate 0.06": FAST._replace(optimizer=partial(muon, momentum=0.9), learning_rate=0.06),
    "Muon at a constant 0.04": FAST._replace(optimizer=constant_muon, learning_rate=0.04),
    "weights averaged over the last 50 steps (EMA 0.98)": FAST._replace(optimizer=averaged_muon),
    "no batch normalization": _built(normalized=False),
    "average pooling": _built(pool="AveragePooling2D"),
    "average over the last map": _built(last_pool="GlobalAveragePooling2D"),
    "He initialization, no identity": _built(initializer="he_normal"),
    "residual blocks of three convolutions": _built(residual=True),
    "SiLU": _built(activation="silu"),
    "dropout of 0.2": _built(dropout=0.2),
    "first convolution trained": _built(whitened=False),
    "logits not divided by 9": _built(logits=1.0),
    "batches of 250, rate 0.085": FAST._replace(batch_size=250, learning_rate=0.085),
}
OVERRIDES: dict[str, dict[str, object]] = {  # `fast` itself, with other values of "module.name" in pipeline.training
    "float32 only": {"devices.precision": lambda: "float32"},
    "Keras' own batch normalization": {"fit.with_fused_normalization": lambda model: model},
}
CHANGES |= dict.fromkeys(OVERRIDES, FAST)
IN_FLOAT32 = {f"{name} in float32": network for name, network in NETWORKS.items()}
OVERRIDES |= dict.fromkeys(IN_FLOAT32, OVERRIDES["float32 only"])
MEASURED = NETWORKS | IN_FLOAT32  # by section training
VARIANTS = MEASURED | CHANGES
