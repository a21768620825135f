"""What the graph of an ONNX file may contain, so that to run it takes bounded time and opens no other file."""

import onnx

from pipeline.common.errors import root_cause

MAXIMUM_NODES = 20_000


def check_graph(content: bytes) -> None:
    """Raise `ValueError` for other files, operators that are not ONNX's own, and subgraphs (Loop, Scan, If)."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"it is not an ONNX file: {root_cause(error)}") from None
    nodes = model.graph.node
    if len(nodes) > MAXIMUM_NODES:
        raise ValueError(f"its graph has {len(nodes):,} nodes, at most {MAXIMUM_NODES:,} are allowed")
    if foreign := {node.op_type for node in nodes if node.domain not in ("", "ai.onnx")} | {
        function.name for function in model.functions
    }:
        raise ValueError(f"it has operators that are not ONNX's own: {sorted(foreign)[:5]}")
    attributes = [(node.op_type, attribute) for node in nodes for attribute in node.attribute]
    if control := {name for name, attribute in attributes if attribute.HasField("g") or attribute.graphs}:
        raise ValueError(f"it has operators with a subgraph, such as loops: {sorted(control)[:5]}")
    tensors = [*model.graph.initializer]
    for sparse in (*model.graph.sparse_initializer, *(each.sparse_tensor for _, each in attributes)):
        tensors += [sparse.values, sparse.indices]
    for _, attribute in attributes:
        tensors += [attribute.t, *attribute.tensors]
        for sparse in attribute.sparse_tensors:
            tensors += [sparse.values, sparse.indices]
    if any(is_external(tensor) for tensor in tensors):
        raise ValueError("it refers to data in other files")


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's values are in another file."""
    return tensor.data_location == 1 or bool(tensor.external_data)
