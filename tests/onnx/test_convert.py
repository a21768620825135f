import json

import numpy as np
import onnx
import pytest

from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.onnx.convert import to_onnx
from pipeline.onnx.session import open_session, predict_probabilities

NAMES = ["cat", "dog", "frog"]


@pytest.fixture(scope="module")
def model():
    keras = start_keras()
    keras.utils.set_random_seed(1)
    network = NETWORKS["basic"].build(3, 32)
    network.set_weights(
        [weights + 0.01 for weights in network.get_weights()]
    )  # new biases are 0, and additions of 0 are removed
    return network


@pytest.fixture(scope="module")
def proto(model):
    return to_onnx(model, 14, NAMES, {"archive_sha256": "ab" * 32, "model": "basic", "validation_accuracy": 0.5})


@pytest.fixture(scope="module")
def session(proto, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return open_session(path)


def test_the_interface_is_the_documented_one(session):
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["batch", 32, 32, 3])
    assert (output.name, output.type, output.shape) == ("probabilities", "tensor(float)", ["batch", 3])


def test_the_metadata_contain_class_names_and_facts(session):
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == NAMES
    assert (facts["archive_sha256"], facts["model"], facts["validation_accuracy"]) == ("ab" * 32, "basic", "0.5")


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_onnx_runtime_agrees_with_keras_at_any_batch_size(model, session, batch_size):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    probabilities = predict_probabilities(session, images, batch_size)
    np.testing.assert_allclose(probabilities, model.predict(images, verbose=0), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("side", [16, 48])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_agrees_with_keras_at_other_sides_and_with_many_classes(name, side):
    network = NETWORKS[name].finish(NETWORKS[name].build(300, side))
    proto = to_onnx(network, 14, [str(number) for number in range(300)], {})
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    probabilities = predict_probabilities(open_session(proto.SerializeToString()), images, 2)
    assert probabilities.shape == (3, 300)
    np.testing.assert_allclose(probabilities, network.predict(images, verbose=0), atol=1e-6)


def test_the_graph_contains_only_the_operations_of_the_network(proto):
    convolutions = "Cast Transpose Conv Relu MaxPool Conv Relu MaxPool Conv Relu Transpose"
    operators = f"{convolutions} Reshape MatMul Add Relu MatMul Add Softmax"
    assert [node.op_type for node in proto.graph.node] == operators.split()
    used = {name for node in proto.graph.node for name in node.input}
    assert {tensor.name for tensor in proto.graph.initializer} < used


def test_two_conversions_give_the_same_bytes(model, proto):
    again = to_onnx(model, 14, NAMES, {"archive_sha256": "ab" * 32, "model": "basic", "validation_accuracy": 0.5})
    assert again.SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize("opset", [13, 18])
def test_other_opsets_are_valid_too(model, opset):
    converted = to_onnx(model, opset, NAMES, {})
    assert [(entry.domain, entry.version) for entry in converted.opset_import] == [("", opset)]
    onnx.checker.check_model(converted, full_check=True)


@pytest.mark.parametrize(
    ("name", "first"),
    [("fast", "Cast"), ("accurate", "Slice Concat Cast"), ("best", "Slice Concat Cast")],
)
def test_batch_normalization_and_scaling_are_folded_into_the_weights(name, first, tmp_path):
    start_keras().utils.set_random_seed(0)
    network, generator = NETWORKS[name].finish(NETWORKS[name].build(3, 32)), np.random.default_rng(0)
    for variable in network.non_trainable_variables:  # new statistics are 0 and 1, and both are removed
        if "moving" in variable.name:
            variable.assign(generator.uniform(0.1, 0.3, variable.shape))
    proto = to_onnx(network, 14, NAMES, {})
    operators = [node.op_type for node in proto.graph.node]
    assert {"Mul", "BatchNormalization"}.isdisjoint(operators)
    assert " ".join(operators).startswith(f"{first} Add Transpose Conv")
    assert operators.count("Transpose") == 1
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    images = generator.integers(0, 256, (5, 32, 32, 3), np.uint8)
    probabilities = predict_probabilities(open_session(tmp_path / "m.onnx"), images, 5)
    np.testing.assert_allclose(probabilities, network.predict(images, verbose=0), atol=1e-5)
