"""Small ONNX models that classify colours, images for them, and the facts of a registered version."""

import json

import numpy as np

from pipeline.data.splits import Split

COLOURS = ["red", "green", "blue"]


def colour_model(blind_to=None, side=32):
    """An ONNX model with the project's interface that predicts red, green or blue, or only two of them."""
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", side, side, 3])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "Cast_0", to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], "ReduceMean_1", axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "scale"], ["logits"], "MatMul_2"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "Softmax_3", axis=1),
    ]
    scale = np.eye(3, dtype=np.float32) / 50
    if blind_to is not None:
        scale[blind_to] = 0
    graph = helper.make_graph(nodes, "colours", [image], [probabilities], [numpy_helper.from_array(scale, "scale")])
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])


def write_colour_model(path, class_names=COLOURS, archive_sha256="ab" * 32, side=32, **facts):
    """Write a colour model with the metadata of an exported model and other `facts`; return its path."""
    from onnx import helper

    model = colour_model(side=side)
    facts |= {"class_names": json.dumps(class_names), "archive_sha256": archive_sha256}
    helper.set_model_props(model, facts)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def paint(images, wrong=(), first=0, side=32):
    """A split of dim red, green and blue images; those at the positions `wrong` have the next class's label."""
    colours = np.arange(images) % 3
    pixels = np.random.default_rng(first).integers(20, 60, (images, side, side, 3))
    pixels[np.arange(images), :, :, colours] += 60
    labels = (colours + np.isin(np.arange(images), wrong)) % 3
    position = np.arange(first, first + images, dtype=np.int32)
    return Split(pixels.astype(np.uint8), labels.astype(np.uint8), position, np.array(COLOURS), "ab" * 32)


VERSION_FACTS = {
    "model": "colours",
    "data": "painted images",
    "inputs": [{"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}],
    "metrics": {
        "validation_accuracy": 0.75,
        "parity_images": 100.0,
        "parity_max_abs_difference": 1e-6,
        "test_accuracy": 0.5,
        "test_accuracy_low": 0.4,
        "test_accuracy_high": 0.6,
        "test_images": 100.0,
        "test_macro_f1": 0.5,
        "test_calibration_error": 0.02,
    },
    "lineage": {"archive_sha256": "ab" * 32, "git_commit": None, "mlflow_run_id": "a run", "model_version": 1},
    "int8": {"kept": False, "reason": "it is slower"},
    "latency": {
        "machine": "a machine",
        "model.onnx": {"batch_1": {"p50_ms": 0.5, "p99_ms": 1.0, "images_per_second": 2000}},
    },
}
