"""Removes the operations that tf2onnx leaves in a graph and that are not needed; the function stays the same."""

import numpy as np
import onnx

from pipeline.onnx.graph_edits import add_constant, constants_of, only_user, remove, takes_constant

LINEAR = ("Transpose", "Reshape", "ReduceMean")  # a scalar factor may be applied after them as well


def simplify(proto: onnx.ModelProto) -> onnx.GraphProto:
    """The model's graph with fewer operations."""
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    graph = inferred.graph
    _make_shapes_constant(graph)
    _remove_zero_additions(graph)
    _fold_scalars_into_next_layer(graph)
    _fold_channels_into_convolution(graph)
    names = [[value.name for value in values] for values in (graph.input, graph.output)]
    # The nodes and constants that are still used:
    return onnx.utils.Extractor(inferred).extract_model(*names).graph


def _make_shapes_constant(graph: onnx.GraphProto) -> None:
    """Give a reshape a constant shape if only the batch is unknown: Keras' Flatten reads the batch size at run time."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    for node in graph.node:
        known = [dim.dim_value for dim in shapes.get(node.output[0], ())][1:]
        if node.op_type == "Reshape" and node.input[1] not in constants_of(graph) and known and all(known):
            node.input[1] = add_constant(graph, f"{node.name}_shape", np.array([-1, *known], np.int64))


def _remove_zero_additions(graph: onnx.GraphProto) -> None:
    """Remove additions of zero: Keras' Rescaling adds its offset."""
    constants = constants_of(graph)
    for node in list(graph.node):
        if takes_constant(node, constants, "Add") and np.array_equal(constants[node.input[1]].ravel(), [0]):
            remove(graph, node)


def _fold_scalars_into_next_layer(graph: onnx.GraphProto) -> None:
    """Move a scalar factor into the weights of the next convolution or dense layer.

    A constant that is added between the two is divided by the factor. Padding with zeros is not affected.
    """
    constants = constants_of(graph)
    for node in [node for node in graph.node if takes_constant(node, constants, "Mul")]:
        factor, additions, layer = constants[node.input[1]], [], only_user(graph, node)
        while layer is not None and (layer.op_type in LINEAR or takes_constant(layer, constants, "Add")):
            additions += [layer] if layer.op_type == "Add" else []
            layer = only_user(graph, layer)
        if factor.size != 1 or not factor.all() or layer is None or layer.op_type not in ("Conv", "MatMul"):
            continue
        for add in additions:
            add.input[1] = add_constant(graph, f"{add.name}_added", constants[add.input[1]] / factor)
        layer.input[1] = add_constant(graph, f"{layer.name}_weights", constants[layer.input[1]] * factor.reshape(()))
        remove(graph, node)


def _fold_channels_into_convolution(graph: onnx.GraphProto) -> None:
    """Move factors and additions per channel that follow a pooling into the convolution before the pooling.

    Such pairs are batch normalization after pooling. An average commutes with every factor, a
    maximum only with positive ones. A pooling that pads is left as it is.
    """
    for pool in [node for node in graph.node if node.op_type in ("MaxPool", "AveragePool") and not _pads(node)]:
        convolution = next((node for node in graph.node if node.output[0] == pool.input[0]), None)
        if convolution is None or convolution.op_type != "Conv" or only_user(graph, convolution) is None:
            continue
        while (after := only_user(graph, pool)) is not None and _fold_node(graph, convolution, pool, after):
            remove(graph, after)


def _fold_node(
    graph: onnx.GraphProto, convolution: onnx.NodeProto, pool: onnx.NodeProto, after: onnx.NodeProto
) -> bool:
    """Put the constant of `after` into the convolution's weights; False if it has another shape or does not commute."""
    constants = constants_of(graph)
    if not takes_constant(after, constants, "Mul", "Add"):
        return False
    weights, value = constants[convolution.input[1]], constants[after.input[1]]  # weights (out, in, rows, columns)
    bias = constants[convolution.input[2]] if len(convolution.input) > 2 else np.zeros(len(weights), weights.dtype)
    if value.size != len(weights) or value.shape[-2:] != (1, 1):
        return False
    value = value.reshape(-1)
    if after.op_type == "Add":
        bias = bias + value
    elif pool.op_type == "MaxPool" and (value <= 0).any():
        return False
    else:
        weights, bias = weights * value[:, None, None, None], bias * value
    added = [add_constant(graph, f"{after.name}_weights", weights), add_constant(graph, f"{after.name}_bias", bias)]
    convolution.input[1:] = added
    return True


def _pads(pool: onnx.NodeProto) -> bool:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in pool.attribute}
    return attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or any(attributes.get("pads", ()))
