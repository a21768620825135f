"""An ONNX graph without what tf2onnx leaves over: the same function in fewer operations."""

from typing import Any

import numpy as np

POOLS = ("MaxPool", "AveragePool")
PASSED = ("Transpose", "Add")  # what a factor may pass on its way to the weights


def simplify(proto: Any) -> Any:
    """The model's graph, simplified.

    A reshape to a computed shape, of which only the batch is unknown, gets that shape as a
    constant (Keras' Flatten asks for the batch size at run time); an addition of zero goes
    (Keras' Rescaling adds its offset); factors go into the weights of the layer after or before
    them; so do nodes and constants that nothing uses any more.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    _fix_shapes(graph)
    _drop_zeros(graph)
    _scale_forward(graph)
    _scale_back(graph)
    _drop_unused(graph)
    return graph


def _fix_shapes(graph: Any) -> None:
    """Reshape to a constant shape where only the batch is unknown."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    for node in graph.node:
        known = [dim.dim_value for dim in shapes.get(node.output[0], ())][1:]
        if node.op_type == "Reshape" and node.input[1] not in _constants(graph) and known and all(known):
            node.input[1] = _add_constant(graph, f"{node.name}_shape", np.array([-1, *known], np.int64))


def _drop_zeros(graph: Any) -> None:
    """Remove additions of one constant zero."""
    constants = _constants(graph)
    for node in list(graph.node):
        if node.op_type == "Add" and node.input[1] in constants:
            added = constants[node.input[1]]
            if added.size == 1 and not added.any():
                _remove(graph, node)


def _scale_forward(graph: Any) -> None:
    """Move a factor of all values into the weights of the next convolution or dense layer.

    Padding stays right: it is zero, and a factor leaves it zero. An addition on the way is divided by the factor.
    """
    constants = _constants(graph)
    for node in [node for node in graph.node if node.op_type == "Mul" and node.input[1] in constants]:
        factor, way, after = constants[node.input[1]], [], _only_user(graph, node)
        while after is not None and after.op_type in PASSED and (after.op_type != "Add" or after.input[1] in constants):
            way.append(after)
            after = _only_user(graph, after)
        if factor.size != 1 or not factor.all() or after is None or after.op_type not in ("Conv", "MatMul"):
            continue
        for passed in way:
            if passed.op_type == "Add":
                passed.input[1] = _add_constant(graph, f"{passed.name}_added", constants[passed.input[1]] / factor)
        after.input[1] = _add_constant(graph, f"{after.name}_weights", constants[after.input[1]] * factor.reshape(()))
        _remove(graph, node)


def _scale_back(graph: Any) -> None:
    """Move factors and additions per channel that follow a pooling into the convolution before it.

    That is batch normalisation after pooling: averages commute with any, a maximum with factors
    above zero, which normalisation has; pooling must not pad.
    """
    for pool in [node for node in graph.node if node.op_type in POOLS]:
        convolution = next((node for node in graph.node if node.output[0] == pool.input[0]), None)
        if (
            convolution is None
            or convolution.op_type != "Conv"
            or _pads(pool)
            or _only_user(graph, convolution) is None
        ):
            continue
        while (after := _only_user(graph, pool)) is not None and _absorbed(graph, convolution, pool, after):
            _remove(graph, after)


def _absorbed(graph: Any, convolution: Any, pool: Any, after: Any) -> bool:
    """Put a factor or an addition per channel into the convolution's weights; False where it is none."""
    constants = _constants(graph)
    if after.op_type not in ("Mul", "Add") or after.input[1] not in constants:
        return False
    weights = constants[convolution.input[1]]  # (out, in, rows, columns)
    bias = constants[convolution.input[2]] if len(convolution.input) > 2 else np.zeros(len(weights), weights.dtype)
    value = constants[after.input[1]]
    if value.size != len(weights) or value.shape[-2:] != (1, 1):
        return False
    value = value.reshape(-1)
    if after.op_type == "Mul":
        if pool.op_type == "MaxPool" and (value <= 0).any():
            return False
        weights, bias = weights * value[:, None, None, None], bias * value
    else:
        bias = bias + value
    convolution.input[1] = _add_constant(graph, f"{after.name}_weights", weights)
    del convolution.input[2:]
    convolution.input.append(_add_constant(graph, f"{after.name}_bias", bias))
    return True


def _pads(pool: Any) -> bool:
    attributes = {attribute.name: attribute for attribute in pool.attribute}
    padding = attributes["auto_pad"].s if "auto_pad" in attributes else b"NOTSET"
    return padding not in (b"NOTSET", b"VALID") or ("pads" in attributes and any(attributes["pads"].ints))


def _constants(graph: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _add_constant(graph: Any, name: str, value: np.ndarray) -> str:
    """Add a constant to the graph; its name."""
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def _only_user(graph: Any, node: Any) -> Any | None:
    """The node that uses this one's output, where there is exactly one and the output is not the graph's."""
    users = [other for other in graph.node if node.output[0] in other.input]
    return users[0] if len(users) == 1 and node.output[0] != graph.output[0].name else None


def _remove(graph: Any, node: Any) -> None:
    """Take a node out: its first input and its output become one value."""
    old, new = node.output[0], node.input[0]
    if old == graph.output[0].name:  # which keeps its name
        old, new = new, old
    graph.node.remove(node)
    for other in graph.node:
        other.input[:] = [new if name == old else name for name in other.input]
        other.output[:] = [new if name == old else name for name in other.output]


def _drop_unused(graph: Any) -> None:
    used = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):  # users come after what they use
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
