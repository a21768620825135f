"""A Keras network as a PyTorch module with the same weights, translated layer by layer."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

import keras
import torch
from torch import nn

from pipeline.common.errors import PipelineError

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softmax": partial(nn.LogSoftmax, dim=-1),  # of the last layer: the loss needs logarithms
}


class TorchNetwork(nn.Module):
    """The PyTorch copy of a Keras network that ends with softmax; frozen weights stay frozen.

    Raises:
        PipelineError: a layer has no translation.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        graph = keras.Model(model.inputs, model.outputs)  # of a Sequential model too
        layers = [layer for layer in graph.operations if not isinstance(layer, keras.layers.InputLayer)]
        place = {id(layer.output): position for position, layer in enumerate(layers, 1)}  # 0 is the image
        self._sources = [[place.get(id(source), 0) for source in _inputs(layer)] for layer in layers]
        self._result = place[id(graph.outputs[0])]
        self.layers = nn.ModuleList(map(translated, layers))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logarithms of the probabilities, float32 (n, classes), of uint8 images (n, side, side, 3)."""
        values = [images.permute(0, 3, 1, 2)]  # (n, 3, side, side), with its channels last in memory
        for layer, sources in zip(self.layers, self._sources, strict=True):
            values.append(layer(*(values[source] for source in sources)))
        return values[self._result]


class Function(nn.Module):
    """A layer without weights: a function of its inputs."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.forward = function


def translated(layer: keras.Layer) -> nn.Module:
    """The PyTorch module of one layer; maps of it are (n, channels, height, width)."""
    if type(layer) not in TRANSLATIONS:
        known = ", ".join(kind.__name__ for kind in TRANSLATIONS)
        raise PipelineError(
            f"layer `{layer.name}` is a {type(layer).__name__}, which has no translation to PyTorch, expected one of "
            f"{known}. Add it to TRANSLATIONS in benchmarks/torch_network.py."
        )
    return TRANSLATIONS[type(layer)](layer)


def convolution(layer: keras.layers.Conv2D) -> nn.Module:
    """Conv2D with its padding and activation."""
    channels, padding = layer.input.shape[-1], paddings(layer, layer.kernel_size, layer.dilation_rate)
    module = nn.Conv2d(
        channels,
        layer.filters,
        layer.kernel_size,
        layer.strides,
        padding=0 if is_uneven(padding) else tuple(before for before, _ in padding),
        dilation=layer.dilation_rate,
        groups=layer.groups,
        bias=layer.use_bias,
    )
    copy(layer.kernel, module.weight, (3, 2, 0, 1))  # from (height, width, inputs, outputs)
    copy(layer.bias, module.bias)
    (top, bottom), (left, right) = padding
    before = [nn.ZeroPad2d((left, right, top, bottom))] if is_uneven(padding) else []
    return nn.Sequential(*before, module, activation(layer))


def dense(layer: keras.layers.Dense) -> nn.Module:
    """Dense with its activation."""
    module = nn.Linear(*layer.kernel.shape, bias=layer.use_bias)
    copy(layer.kernel, module.weight, (1, 0))
    copy(layer.bias, module.bias)
    return nn.Sequential(module, activation(layer))


def normalization(layer: keras.layers.BatchNormalization) -> nn.Module:
    """BatchNormalization of maps or of vectors."""
    kind = nn.BatchNorm2d if len(layer.input.shape) == 4 else nn.BatchNorm1d
    module = kind(layer.input.shape[-1], layer.epsilon, momentum=1 - layer.momentum)
    copy(layer.gamma, module.weight)
    copy(layer.beta, module.bias)
    copy(layer.moving_mean, module.running_mean)
    copy(layer.moving_variance, module.running_var)
    return module


def copy(variable: keras.Variable | None, target: torch.Tensor | None, axes: Sequence[int] | None = None) -> None:
    """Copy a weight, with its axes in this order; a weight that Keras does not have stays as it is, and frozen."""
    if variable is not None and target is not None:
        value = torch.tensor(keras.ops.convert_to_numpy(variable))
        with torch.no_grad():
            target.copy_(value.permute(axes) if axes else value)
    if isinstance(target, nn.Parameter):
        target.requires_grad_(variable is not None and variable.trainable)


def activation(layer: keras.Layer) -> nn.Module:
    """The activation function of a layer."""
    name = keras.activations.serialize(layer.activation)
    if name not in ACTIVATIONS:
        raise PipelineError(
            f"layer `{layer.name}` has the activation {name}, which has no translation to PyTorch, expected one of "
            f"{', '.join(ACTIVATIONS)}. Add it to ACTIVATIONS in benchmarks/torch_network.py."
        )
    return ACTIVATIONS[name]()


def pooling(kind: type[nn.Module], layer: keras.Layer) -> nn.Module:
    """Maximum or average over windows without padding."""
    if any(map(any, paddings(layer, layer.pool_size))):
        raise PipelineError(
            f"layer `{layer.name}` pads its input of {layer.input.shape[1:3]}, but only pooling without padding has a "
            "translation to PyTorch. Add it to `pooling` in benchmarks/torch_network.py."
        )
    return kind(layer.pool_size, layer.strides)


def paddings(layer: keras.Layer, size: Sequence[int], dilation: Sequence[int] = (1, 1)) -> list[tuple[int, int]]:
    """Zeros before and after each axis, as TensorFlow pads: an odd one comes after."""
    if layer.padding == "valid":
        return [(0, 0), (0, 0)]
    found = []
    for length, window, stride, spread in zip(layer.input.shape[1:3], size, layer.strides, dilation, strict=True):
        total = max(0, (-(-length // stride) - 1) * stride + (window - 1) * spread + 1 - length)
        found.append((total // 2, total - total // 2))
    return found


def is_uneven(padding: list[tuple[int, int]]) -> bool:
    """Whether an axis has more zeros after than before."""
    return any(before != after for before, after in padding)


def rescaling(layer: keras.layers.Rescaling) -> nn.Module:
    """Rescaling by numbers, or by one number per channel."""
    axes = [1] * (len(layer.input.shape) - 2)
    scale, offset = (
        torch.tensor(value, dtype=torch.float32).reshape(-1, *axes) for value in (layer.scale, layer.offset)
    )
    return Function(lambda x: x * scale + offset)


def _inputs(layer: keras.Layer) -> list[keras.KerasTensor]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


TRANSLATIONS: dict[type[keras.Layer], Callable[[keras.Layer], nn.Module]] = {
    keras.layers.Rescaling: rescaling,
    keras.layers.Conv2D: convolution,
    keras.layers.BatchNormalization: normalization,
    keras.layers.ReLU: lambda _: nn.ReLU(),
    keras.layers.Activation: activation,
    keras.layers.MaxPooling2D: partial(pooling, nn.MaxPool2d),
    keras.layers.AveragePooling2D: partial(pooling, nn.AvgPool2d),
    keras.layers.GlobalMaxPooling2D: lambda _: Function(lambda x: x.amax((2, 3))),
    keras.layers.GlobalAveragePooling2D: lambda _: Function(lambda x: x.mean((2, 3))),
    keras.layers.Flatten: lambda _: Function(lambda x: x.movedim(1, -1).flatten(1)),  # in Keras' order
    keras.layers.Dropout: lambda layer: nn.Dropout(layer.rate),
    keras.layers.Add: lambda _: Function(lambda *inputs: reduce(torch.add, inputs)),
    keras.layers.Dense: dense,
}
