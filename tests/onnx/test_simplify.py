"""Small graphs, simplified: fewer operations, the same function."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.onnx.simplify import simplify

GENERATOR = np.random.default_rng(0)
WEIGHTS = GENERATOR.normal(size=(4, 3, 3, 3)).astype(np.float32)
PER_CHANNEL = np.array([0.5, 2, 1.5, 3], np.float32).reshape(4, 1, 1)
SHIFT = np.array([1, -1, 0.5, 2], np.float32).reshape(4, 1, 1)
INPUT = GENERATOR.normal(size=(2, 3, 8, 8)).astype(np.float32)


def graph(*nodes, **constants):
    """A model of float32 [batch, 3, 8, 8]; a node is given by its operator, its further inputs and its attributes."""
    made, value = [], "x"
    for number, (operator, names, attributes) in enumerate(nodes):
        made.append(helper.make_node(operator, [value, *names], [f"y{number}"], f"n{number}", **attributes))
        value = f"y{number}"
    made[-1].output[0] = "y"
    return helper.make_model(
        helper.make_graph(
            made,
            "made by hand",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        ir_version=7,
        opset_imports=[helper.make_opsetid("", 14)],
    )


def simplified(model):
    """The remaining operators, after a check that both graphs have the same output."""
    before = output(model)
    after = helper.make_model(simplify(model), ir_version=7, opset_imports=[helper.make_opsetid("", 14)])
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(output(after), before, atol=1e-5)
    return [node.op_type for node in after.graph.node]


def output(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": INPUT})[0]


CONVOLUTION = ("Conv", ["weights"], {"pads": [1, 1, 1, 1]})


def pooling(operator, **attributes):
    return (operator, [], {"kernel_shape": [2, 2], "strides": [2, 2]} | attributes)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_batch_normalization_after_pooling_is_folded_into_the_convolution(operator):
    nodes = (CONVOLUTION, pooling(operator), ("Mul", ["scale"], {}), ("Add", ["shift"], {}), ("Relu", [], {}))
    model = graph(*nodes, weights=WEIGHTS, scale=PER_CHANNEL, shift=SHIFT)
    assert simplified(model) == ["Conv", operator, "Relu"]


def test_a_bias_is_scaled_too():
    with_bias = ("Conv", ["weights", "bias"], {})
    model = graph(
        with_bias, pooling("MaxPool"), ("Mul", ["scale"], {}), weights=WEIGHTS, bias=SHIFT.ravel(), scale=PER_CHANNEL
    )
    assert simplified(model) == ["Conv", "MaxPool"]


def test_a_maximum_does_not_commute_with_a_negative_factor():
    model = graph(CONVOLUTION, pooling("MaxPool"), ("Mul", ["scale"], {}), weights=WEIGHTS, scale=-PER_CHANNEL)
    assert simplified(model) == ["Conv", "MaxPool", "Mul"]
    model = graph(CONVOLUTION, pooling("AveragePool"), ("Mul", ["scale"], {}), weights=WEIGHTS, scale=-PER_CHANNEL)
    assert simplified(model) == ["Conv", "AveragePool"]


@pytest.mark.parametrize("padding", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER", "strides": [3, 3]}])
def test_a_pooling_that_pads_does_not_change(padding):
    average = pooling("AveragePool", count_include_pad=1, **padding)
    model = graph(CONVOLUTION, average, ("Add", ["shift"], {}), weights=WEIGHTS, shift=SHIFT)
    assert simplified(model) == ["Conv", "AveragePool", "Add"]


def test_a_factor_before_a_convolution_is_folded_into_its_weights_and_padding_stays_zero():
    nodes = (("Mul", ["factor"], {}), ("Add", ["offset"], {}), CONVOLUTION)
    model = graph(*nodes, weights=WEIGHTS, factor=np.float32(1 / 64), offset=np.float32(-1.9))
    assert simplified(model) == ["Add", "Conv"]


def test_a_factor_that_no_layer_follows_stays():
    assert simplified(graph(("Mul", ["factor"], {}), ("Relu", [], {}), factor=np.float32(2))) == ["Mul", "Relu"]
    model = graph(("Mul", ["factor"], {}), CONVOLUTION, weights=WEIGHTS, factor=np.float32(0))
    assert simplified(model) == ["Mul", "Conv"]


def test_a_factor_stays_if_two_nodes_use_its_output():
    nodes = (("Mul", ["factor"], {}), ("Conv", ["weights"], {"pads": [1, 1, 1, 1]}), ("Add", ["y0"], {}))
    model = graph(*nodes, weights=WEIGHTS[:3], factor=np.float32(2))
    assert simplified(model) == ["Mul", "Conv", "Add"]


def test_additions_of_zero_and_unused_constants_are_removed():
    model = graph(("Add", ["zero"], {}), ("Relu", [], {}), zero=np.float32(0))
    assert simplified(model) == ["Relu"]
    assert not simplify(model).initializer
