"""The form of a float model whose int8 copy needs no float operation between its layers.

An engine runs an operation on 8-bit values only if its inputs and outputs are quantized, and a maximum only if both
have the same scale.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType

from pipeline.onnx.graph_edits import add_constant, constants_of, only_user, remove, takes_constant
from pipeline.onnx.session import INPUT

MOVES_PIXELS = ("Slice", "Concat")
Ranges = dict[str, list[dict[str, object]]]  # of tensors, instead of measured ones, as `quantize_static` takes them


def int8_form(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Ranges]:
    """A copy of `model` to be quantized, and the range of its pixels.

    The function is the same, except at padded borders: there it may differ by half a pixel value.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _pool_the_whole_map(copy.graph)
    _put_relu_before_maximum(copy.graph)
    ranges = _read_pixels_as_quantized(copy.graph)
    used = {name for node in copy.graph.node for name in node.input}
    for tensor in [tensor for tensor in copy.graph.initializer if tensor.name not in used]:
        copy.graph.initializer.remove(tensor)
    del copy.graph.value_info[:]  # shapes of the old order
    return onnx.shape_inference.infer_shapes(copy, data_prop=True), ranges


def probability_layers(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that stay in float, so that probabilities are not rounded to 8 bits and sum to 1."""
    return [node.name for node in model.graph.node if node.op_type == "Softmax"]


def _pool_the_whole_map(graph: onnx.GraphProto) -> None:
    """Replace a global maximum by a max pooling of the whole map, which engines run on 8-bit values."""
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info}
    for node in graph.node:
        sides = shapes.get(node.input[0], [])[2:]  # 0 for an unknown one
        if node.op_type == "GlobalMaxPool" and sides and all(sides):
            node.CopyFrom(helper.make_node("MaxPool", node.input, node.output, node.name, kernel_shape=sides))


def _put_relu_before_maximum(graph: onnx.GraphProto) -> None:
    """Exchange each max pooling and the ReLU behind it: then input and output of the pooling have the same range."""
    for pool in graph.node:
        relu = only_user(graph, pool) if pool.op_type == "MaxPool" else None
        if relu is not None and relu.op_type == "Relu":
            first, second = _moved(relu, pool), _moved(pool, relu)
            pool.CopyFrom(first)
            relu.CopyFrom(second)


def _moved(node: onnx.NodeProto, place: onnx.NodeProto) -> onnx.NodeProto:
    """A copy of `node` with the inputs and outputs of `place`."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:], copy.output[:] = place.input, place.output
    return copy


class FirstLayers(NamedTuple):
    """Conversion to float, addition of one number from -255 to 0 if there is one, transposition, convolution.

    What comes before only moves pixels: a network may see the mirror image too.
    """

    cast: onnx.NodeProto
    offset: onnx.NodeProto | None
    transpose: onnx.NodeProto
    convolution: onnx.NodeProto


def _read_pixels_as_quantized(graph: onnx.GraphProto) -> Ranges:
    """Read the image as 8-bit values of scale 1, without a conversion; no range if the first layers are others.

    An offset becomes the zero point, which is a whole number; the convolution's bias gets the rest.
    """
    if (layers := _first_layers(graph)) is None:
        return {}
    added = constants_of(graph)[layers.offset.input[1]].item() if layers.offset is not None else 0.0
    scale, zero_point = np.array(1, np.float32), np.array(round(-added), np.uint8)
    if layers.offset is not None:
        _add_to_input(graph, layers.convolution, added + int(zero_point))
        remove(graph, layers.offset)
    names = ["pixel_scale", "pixel_zero_point"]
    graph.initializer.extend([numpy_helper.from_array(scale, names[0]), numpy_helper.from_array(zero_point, names[1])])
    layers.cast.CopyFrom(
        helper.make_node("DequantizeLinear", [layers.cast.input[0], *names], layers.cast.output, layers.cast.name)
    )
    return {layers.transpose.output[0]: [{"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero_point}]}


def _first_layers(graph: onnx.GraphProto) -> FirstLayers | None:
    """The first layers, or None if they are others."""
    pixels, constants = INPUT, constants_of(graph)
    while moved := next((node for node in graph.node if pixels in node.input and node.op_type in MOVES_PIXELS), None):
        pixels = moved.output[0]
    cast, *others = [node for node in graph.node if pixels in node.input]
    offset, transpose = None, only_user(graph, cast)
    if transpose is not None and takes_constant(transpose, constants, "Add"):
        offset, transpose = transpose, only_user(graph, transpose)
        values = constants[offset.input[1]]
        others += [offset] if values.size != 1 or not -255 <= values.item() <= 0 else []
    convolution = only_user(graph, transpose) if transpose is not None else None
    if others or transpose is None or convolution is None:
        return None
    layers = FirstLayers(cast, offset, transpose, convolution)
    return layers if (cast.op_type, transpose.op_type, convolution.op_type) == ("Cast", "Transpose", "Conv") else None


def _add_to_input(graph: onnx.GraphProto, convolution: onnx.NodeProto, value: float) -> None:
    """Change the bias of a convolution as if `value` were added to its input; padding is not changed."""
    constants = constants_of(graph)
    weights = constants[convolution.input[1]]  # (out, in, rows, columns)
    bias = constants[convolution.input[2]] if len(convolution.input) > 2 else np.zeros(len(weights), weights.dtype)
    changed = (bias + value * weights.sum((1, 2, 3), dtype=np.float64)).astype(weights.dtype)
    convolution.input[2:] = [add_constant(graph, f"{convolution.name}_bias", changed)]
