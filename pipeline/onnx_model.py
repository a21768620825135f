"""From a Keras network to an ONNX model: names, metadata and checks; and how to run one."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError, innermost
from pipeline.onnx_simplify import simplify

INPUT, OUTPUT = "image", "probabilities"


def to_onnx(model: Any, opset: int, class_names: list[str], facts: dict[str, Any]) -> Any:
    """Convert a Keras model; equal models give equal bytes.

    Args:
        model: takes uint8 (n, 32, 32, 3), gives float32 (n, classes).
        opset: ONNX operator set version.
        class_names: one per output column, in order.
        facts: further `metadata_props`, each written as text.

    Returns:
        An onnx.ModelProto with input `image` uint8 [batch, 32, 32, 3] and output `probabilities`
        float32 [batch, classes], checked with full shape inference.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: the graph is not valid.
    """
    import onnx
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


def _rename(graph: Any) -> None:
    """Name nodes and tensors after their place in the graph.

    tf2onnx numbers them by a counter that runs on from one conversion to the next.
    """
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    constants = {tensor.name for tensor in graph.initializer}
    for number, node in enumerate(graph.node):  # ONNX keeps nodes in topological order
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.input):
            if name in constants:
                names.setdefault(name, f"{node.name}_input_{place}")
        for place, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_output_{place}")
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] if name else "" for name in node.output]
    for named in (*graph.initializer, *graph.input, *graph.output):
        named.name = names[named.name]
    kept = sorted(graph.initializer, key=lambda tensor: tensor.name)
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)


def open_session(path: Path) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def session_for(path: Path, class_names: list[str], archive_sha256: str) -> Any:
    """An ONNX Runtime session on the CPU, of a model that was made for this data.

    Raises:
        PipelineError: the file is absent or damaged, names other classes, or learnt from another archive.
    """
    try:
        session = open_session(path)
    except Exception as error:  # ONNX Runtime's own classes, one for each kind of damage
        raise PipelineError(
            f"cannot read the ONNX model {path}: {innermost(error)}. `dvc repro` restores it or makes it anew."
        ) from None
    facts = session.get_modelmeta().custom_metadata_map
    for name, value in {"class_names": json.dumps(class_names), "archive_sha256": archive_sha256}.items():
        if facts.get(name) != value:
            raise PipelineError(
                f"{path} was not made for this data: its {name} is {facts.get(name)}, the splits' is {value}. "
                "`dvc repro` brings the two that belong together."
            )
    return session


def probabilities(session: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Run all images.

    Args:
        images: uint8 (n, 32, 32, 3), RGB.

    Returns:
        float32 (n, classes), rows sum to 1.
    """
    starts = range(0, len(images), batch_size)
    return np.concatenate([session.run([OUTPUT], {INPUT: images[i : i + batch_size]})[0] for i in starts])
