import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_models import COLOURS

from pipeline.data.splits import Split
from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.registry import quantize
from pipeline.registry.quantize import is_better, quantize_if_better


@pytest.fixture
def split():
    """90 noisy images, each red, green or blue."""
    labels = np.arange(90, dtype=np.uint8) % 3
    images = np.random.default_rng(0).integers(0, 50, (90, 32, 32, 3), np.uint8)
    images[np.arange(90), ..., labels] += 150
    return Split(images, labels, np.arange(90, dtype=np.int32), np.array(COLOURS), "ab" * 32)


def two_layers(constant):
    """A model that recognizes colours with two 1x1 convolutions; between them one channel is constant."""
    first = np.zeros((4, 3, 1, 1), np.float32)
    first[:3, :, 0, 0] = np.eye(3) / 50
    second = np.zeros((3, 4, 1, 1), np.float32)
    second[:, :3, 0, 0] = np.eye(3)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first", "bias"], ["hidden"], "first"),
        helper.make_node("Conv", ["hidden", "second"], ["maps"], "second"),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["logits"], "flatten"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]
    constants = {"first": first, "second": second, "bias": np.array([0, 0, 0, constant], np.float32)}
    graph = helper.make_graph(
        nodes,
        "two layers",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 14)])


def quantized(tmp_path, model, split):
    """The result of `quantize_if_better` with an allowed loss of 0.5 points."""
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return quantize_if_better(tmp_path / "model.onnx", tmp_path / "int8.onnx", split, split, 0.005)


def test_an_int8_copy_that_is_faster_and_as_accurate_is_kept(tmp_path, split, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratios", lambda *_: np.linspace(1.9, 2.1, 30))  # differs by machine
    found = quantized(tmp_path, two_layers(1.0), split)
    assert found["kept"]
    assert (found["validation_accuracy"], found["float_validation_accuracy"], found["layers_in_float"]) == (1, 1, [])
    assert found["reason"] == "it is 2.0 times as fast (1.92 to 2.08) and loses 0.00 points of validation accuracy"
    assert found["bytes"] == (tmp_path / "int8.onnx").stat().st_size
    proto = onnx.load(tmp_path / "int8.onnx")
    assert {"int8", "uint8"} <= {
        helper.tensor_dtype_to_np_dtype(tensor.data_type).name for tensor in proto.graph.initializer
    }
    probabilities = predict_probabilities(open_session(tmp_path / "int8.onnx"), split.images, 30)
    assert (probabilities.argmax(1) == split.labels).all()


def test_a_copy_that_is_not_faster_is_not_kept(tmp_path, split, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratios", lambda *_: np.linspace(0.9, 1.2, 30))
    found = quantized(tmp_path, two_layers(1.0), split)
    assert (found["kept"], (tmp_path / "int8.onnx").exists()) == (False, False)
    assert "(0.93 to 1.17) on this machine, but 9 of 10 rounds must be faster" in found["reason"]


def test_layers_that_lose_accuracy_in_8_bits_are_left_in_float(tmp_path, split):
    """The constant needs all 255 steps: the colours in the other channels are lost."""
    found = quantized(tmp_path, two_layers(1e5), split)
    assert found["layers_in_float"] == ["first", "second"]
    assert found["validation_accuracy"] == 1


def test_a_copy_that_stays_inaccurate_is_not_kept(tmp_path, split, monkeypatch):
    monkeypatch.setattr(quantize, "MOST_IN_FLOAT", 1)
    found = quantized(tmp_path, two_layers(1e5), split)
    assert not found["kept"]
    assert "points of validation accuracy, at most 0.50 are allowed" in found["reason"]


@pytest.mark.parametrize(
    ("accuracy", "slowest", "kept"),
    [(0.845, 1.01, True), (0.844, 1.01, False), (0.845, 1.0, False), (0.9, 1.5, True)],
)
def test_a_copy_must_be_both_accurate_and_faster(accuracy, slowest, kept):
    assert is_better(0.85 - accuracy, 0.005, slowest, 1.5, 2.0)[0] is kept


def test_the_speed_ratio_of_a_model_to_itself_is_about_1(tmp_path, split):
    (tmp_path / "model.onnx").write_bytes(two_layers(1.0).SerializeToString())
    ratios = quantize.speed_ratios(tmp_path / "model.onnx", tmp_path / "model.onnx", split.images)
    assert ratios.shape == (quantize.ROUNDS,)
    assert 0.5 < np.median(ratios) < 2


@pytest.mark.parametrize("vnni", [True, False])
def test_weights_have_7_bits_if_the_processor_sums_in_16_bits(tmp_path, split, monkeypatch, vnni):
    monkeypatch.setattr(quantize, "has_vnni", lambda: vnni)
    monkeypatch.setattr(quantize, "speed_ratios", lambda *_: np.full(30, 2.0))
    assert quantized(tmp_path, two_layers(1.0), split)["reduce_range"] is not vnni
    tensors = onnx.load(tmp_path / "int8.onnx").graph.initializer
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in tensors
        if "first" in tensor.name and tensor.data_type == TensorProto.INT8
    ]
    assert max(np.abs(array.astype(int)).max() for array in weights) == (127 if vnni else 64)
