"""Conversion of a Keras network to a checked ONNX model with stable names, and metadata."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx

from pipeline.onnx.session import INPUT, OUTPUT
from pipeline.onnx.simplify import simplify

if TYPE_CHECKING:
    import keras


def to_onnx(model: "keras.Model", opset: int, class_names: list[str], facts: Mapping[str, object]) -> onnx.ModelProto:
    """The ONNX model of a Keras network, checked with full shape inference; equal networks give equal bytes.

    Its input is `image`, uint8 [batch, side, side, 3], its output `probabilities`, float32 [batch, classes]. Its
    `metadata_props` are `class_names`, in the order of the output's columns, and `facts` as text.
    """
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    shape = (None, *model.input_shape[1:])
    function = tf.function(lambda image: {OUTPUT: model(image, training=False)})
    proto, _ = tf2onnx.convert.from_function(function, [tf.TensorSpec(shape, tf.uint8, name=INPUT)], opset=opset)
    proto = onnx.helper.make_model(
        simplify(proto),
        ir_version=proto.ir_version,
        producer_name="tf2onnx",
        producer_version=tf2onnx.__version__,
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    _rename(proto.graph)
    proto.graph.name, proto.graph.doc_string = model.name, ""
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    metadata = {"class_names": json.dumps(class_names)} | {name: str(value) for name, value in facts.items()}
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)


def _rename(graph: onnx.GraphProto) -> None:
    """Name nodes and tensors by position in the graph; tf2onnx's counter is not reset between two conversions."""
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    constant_names = {tensor.name for tensor in graph.initializer}
    for number, node in enumerate(graph.node):  # ONNX keeps nodes in topological order
        node.name = f"{node.op_type}_{number}"
        for position, name in enumerate(node.input):
            if name in constant_names:
                names.setdefault(name, f"{node.name}_input_{position}")
        for position, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_output_{position}")
        for tensors in (node.input, node.output):
            tensors[:] = [names[name] if name else "" for name in tensors]
    for named in (*graph.initializer, *graph.input, *graph.output):
        named.name = names[named.name]
    graph.initializer.sort(key=lambda tensor: tensor.name)
    del graph.value_info[:]
