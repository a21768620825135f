"""Small edits of an ONNX graph, for programs that rewrite one."""

import numpy as np
import onnx
from onnx import numpy_helper


def constants_of(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The graph's constants by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def takes_constant(node: onnx.NodeProto, constants: dict[str, np.ndarray], *operators: str) -> bool:
    """Whether the node is one of these operators and its second input is a constant."""
    return node.op_type in operators and node.input[1] in constants


def add_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> str:
    """Add a constant to the graph; returns its name."""
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def only_user(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The one node that uses the output of `node`; None if there are several or if it is the graph's output."""
    users = [other for other in graph.node if node.output[0] in other.input]
    return users[0] if len(users) == 1 and node.output[0] != graph.output[0].name else None


def remove(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Remove a node: its users get its first input instead of its output."""
    old, new = node.output[0], node.input[0]
    if old == graph.output[0].name:  # the graph's output must keep its name
        old, new = new, old
    graph.node.remove(node)
    for other in graph.node:
        for names in (other.input, other.output):
            names[:] = [new if name == old else name for name in names]
