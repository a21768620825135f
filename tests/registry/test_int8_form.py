"""The form that is quantized: the same function, and after quantization no float operation between the layers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_models import COLOURS

from pipeline.data.synthetic import generate
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.onnx.convert import to_onnx
from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.registry.int8_form import int8_form
from pipeline.registry.quantize import quantize

GENERATOR = np.random.default_rng(0)
WEIGHTS = GENERATOR.normal(size=(4, 3, 3, 3)).astype(np.float32)
IMAGES = GENERATOR.integers(0, 256, (2, 8, 8, 3), np.uint8)
CAST = helper.make_node("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT)
POOL = helper.make_node("MaxPool", ["maps"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2])
RELU = helper.make_node("Relu", ["pooled"], ["y"], "relu")


def add(name):
    return helper.make_node("Add", ["pixels", name], ["shifted"], "add")


def transpose(source):
    return helper.make_node("Transpose", [source], ["planes"], "transpose", perm=[0, 3, 1, 2])


def convolution(*bias, pad=0):
    return helper.make_node("Conv", ["planes", "weights", *bias], ["maps"], "convolution", pads=[pad] * 4)


def model(*nodes, output=None, **constants):
    """A model of uint8 [batch, 8, 8, 3] with these nodes."""
    constants = {"weights": WEIGHTS} | constants
    used = {name for node in nodes for name in node.input}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "made by hand",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 3])],
            [helper.make_tensor_value_info(output or nodes[-1].output[0], TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items() if name in used],
        ),
        ir_version=7,
        opset_imports=[helper.make_opsetid("", 14)],
    )


def changed(before):
    """Operators of the new form, its ranges, and the difference of its outputs from those before."""
    after, ranges = int8_form(before)
    onnx.checker.check_model(after, full_check=True)
    first, second = (open_session(each.SerializeToString()).run(None, {"image": IMAGES})[0] for each in (before, after))
    return [node.op_type for node in after.graph.node], ranges, np.abs(first - second)


@pytest.mark.parametrize("bias", [[], ["bias"]])
@pytest.mark.parametrize(("offset", "zero_point"), [([-121.6], 122), (0.0, 0), (-255.0, 255)])
def test_the_offset_of_pixels_becomes_the_zero_point_and_part_of_the_bias(bias, offset, zero_point):
    nodes = [CAST, add("offset"), transpose("shifted"), convolution(*bias)]
    operators, ranges, difference = changed(model(*nodes, offset=offset, bias=[1, -2, 3, 0]))
    assert operators == ["DequantizeLinear", "Transpose", "Conv"]
    (found,) = ranges["planes"]
    assert (found["scale"], found["zero_point"]) == (1, zero_point)
    assert difference.max() < 1e-3  # of values up to 2,000


def test_at_padded_borders_the_difference_is_at_most_half_a_pixel_value():
    nodes = [CAST, add("offset"), transpose("shifted"), convolution(pad=1)]
    _, _, difference = changed(model(*nodes, offset=[-121.6]))
    assert difference[:, :, 1:-1, 1:-1].max() < 1e-3
    assert 0 < difference.max() <= 0.5 * np.abs(WEIGHTS).sum((1, 2, 3)).max()


def test_pixels_without_an_offset_have_the_zero_point_0():
    operators, ranges, difference = changed(model(CAST, transpose("pixels"), convolution()))
    assert operators == ["DequantizeLinear", "Transpose", "Conv"]
    assert ranges["planes"][0]["zero_point"] == 0
    assert difference.max() == 0


@pytest.mark.parametrize(
    "nodes",
    [
        [CAST, add("positive"), transpose("shifted"), convolution()],
        [CAST, add("per_channel"), transpose("shifted"), convolution()],
        [CAST, transpose("pixels"), helper.make_node("Relu", ["planes"], ["y"], "relu")],
        [CAST, transpose("pixels")],
        [CAST],
        [
            CAST,
            helper.make_node("Cast", ["image"], ["again"], "again", to=TensorProto.FLOAT),
            transpose("pixels"),
            convolution(),
        ],
    ],
)
def test_other_first_layers_stay_as_they_are(nodes):
    before = model(*nodes, positive=1.0, per_channel=[-1, -2, -3])
    operators, ranges, difference = changed(before)
    assert operators == [node.op_type for node in nodes]
    assert ranges == {}
    assert difference.max() == 0


def test_relu_is_put_before_the_maximum():
    operators, _, difference = changed(model(CAST, transpose("pixels"), convolution(), POOL, RELU))
    assert operators[-2:] == ["Relu", "MaxPool"]
    assert difference.max() == 0


def test_a_maximum_that_another_layer_reads_too_stays_before_the_relu():
    both = helper.make_node("Add", ["pooled", "y"], ["both"], "both")
    operators, _, difference = changed(model(CAST, transpose("pixels"), convolution(), POOL, RELU, both))
    assert operators[-3:] == ["MaxPool", "Relu", "Add"]
    assert difference.max() == 0


MIRROR = [
    helper.make_node("Slice", ["image", "starts", "ends", "axes", "steps"], ["mirrored"], "mirror"),
    helper.make_node("Concat", ["image", "mirrored"], ["both"], "both", axis=0),
    helper.make_node("Cast", ["both"], ["pixels"], "cast", to=TensorProto.FLOAT),
]
REVERSED = {"starts": [-1], "ends": [-9], "axes": [2], "steps": [-1]}


def mirrored_model(*nodes):
    before = model(*nodes, offset=[-121.6])
    before.graph.initializer.extend(numpy_helper.from_array(np.int64(each), name) for name, each in REVERSED.items())
    return before


def test_pixels_of_image_and_mirror_image_are_read_as_8_bit_values():
    before = mirrored_model(*MIRROR, add("offset"), transpose("shifted"), convolution())
    operators, ranges, difference = changed(before)
    assert operators == ["Slice", "Concat", "DequantizeLinear", "Transpose", "Conv"]
    assert ranges["planes"][0]["zero_point"] == 122
    assert difference.max() < 1e-3


def test_a_global_maximum_becomes_a_pooling_if_the_size_of_the_map_is_known():
    whole = helper.make_node("GlobalMaxPool", ["maps"], ["y"], "whole")
    before = model(CAST, transpose("pixels"), convolution(), whole)
    operators, _, _ = changed(before)
    assert operators[-1] == "GlobalMaxPool"
    operators, _, difference = changed(onnx.shape_inference.infer_shapes(before))
    assert operators[-1] == "MaxPool"
    assert difference.max() == 0


@pytest.mark.parametrize("name", ["basic", "fast", "accurate"])
def test_in_an_int8_copy_only_the_last_layers_are_in_float(name, tmp_path):
    start_keras().utils.set_random_seed(0)
    network = NETWORKS[name].finish(NETWORKS[name].build(3, 32))
    onnx.save(to_onnx(network, 14, COLOURS, {}), tmp_path / "model.onnx")
    images, _ = generate(64, seed=0)
    quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx", images)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_it_runs.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "as_it_runs.onnx").graph.node]
    assert operators[-2:] == ["DequantizeLinear", "Softmax"]
    layers = operators[:-2]
    if name == "accurate":  # the mean over image and mirror image, of a few hundred numbers
        assert layers[-5:-1] == ["Reshape", "DequantizeLinear", "ReduceMean", "QuantizeLinear"]
        del layers[-5:-1]
    in_float = {"Cast", "DequantizeLinear", "QuantizeLinear", "Conv", "MaxPool", "GlobalMaxPool", "MatMul"}
    assert not (in_float | {"ReorderInput"}) & set(layers)
    probabilities = predict_probabilities(open_session(tmp_path / "int8.onnx"), images, 64)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
