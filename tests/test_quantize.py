import numpy as np
import onnx
import pytest
from conftest import COLOURS
from onnx import TensorProto, helper, numpy_helper

from pipeline import quantize
from pipeline.onnx_model import open_session, probabilities
from pipeline.quantize import earn_int8, verdict
from pipeline.splits import Split


@pytest.fixture
def split():
    """90 noisy images, each red, green or blue."""
    labels = np.arange(90, dtype=np.uint8) % 3
    images = np.random.default_rng(0).integers(0, 50, (90, 32, 32, 3), np.uint8)
    images[np.arange(90), ..., labels] += 150
    return Split(images, labels, np.arange(90, dtype=np.int32), np.array(COLOURS), "ab" * 32)


def two_layers(constant):
    """A model that tells colours by two 1x1 convolutions; between them one channel has that value everywhere."""
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


def earn(tmp_path, model, split, loss=0.005):
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return earn_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", split, split, loss)


def test_an_int8_copy_that_is_faster_and_as_accurate_is_kept(tmp_path, split, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratios", lambda *_: np.linspace(1.9, 2.1, 30))  # differs by machine
    found = earn(tmp_path, two_layers(1.0), split)
    assert found["kept"]
    assert (found["validation_accuracy"], found["float_validation_accuracy"], found["layers_in_float"]) == (1, 1, [])
    assert found["reason"] == "it is 2.0 times as fast (1.92 to 2.08) and loses 0.00% of validation accuracy"
    assert found["bytes"] == (tmp_path / "int8.onnx").stat().st_size
    proto = onnx.load(tmp_path / "int8.onnx")
    assert {"int8", "uint8"} <= {
        helper.tensor_dtype_to_np_dtype(tensor.data_type).name for tensor in proto.graph.initializer
    }
    scores = probabilities(open_session(tmp_path / "int8.onnx"), split.images, 30)
    assert (scores.argmax(1) == split.labels).all()


def test_one_that_is_not_faster_is_not_kept(tmp_path, split, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratios", lambda *_: np.linspace(0.9, 1.2, 30))
    found = earn(tmp_path, two_layers(1.0), split)
    assert (found["kept"], (tmp_path / "int8.onnx").exists()) == (False, False)
    assert "no gain beyond chance on this machine" in found["reason"]


def test_layers_that_8_bits_spoil_are_left_in_float(tmp_path, split):
    """The constant takes all of the 255 steps: the colours beside it are lost."""
    found = earn(tmp_path, two_layers(1e5), split)
    assert found["layers_in_float"] == ["first", "second"]
    assert found["validation_accuracy"] == 1


def test_one_that_stays_inaccurate_is_not_kept(tmp_path, split, monkeypatch):
    monkeypatch.setattr(quantize, "MOST_IN_FLOAT", 1)
    found = earn(tmp_path, two_layers(1e5), split)
    assert not found["kept"]
    assert "of validation accuracy, at most 0.50% is allowed" in found["reason"]


@pytest.mark.parametrize(
    ("accuracy", "slowest", "kept"),
    [(0.845, 1.01, True), (0.844, 1.01, False), (0.845, 1.0, False), (0.9, 1.5, True)],
)
def test_the_verdict_asks_for_both(accuracy, slowest, kept):
    figures = {"validation_accuracy": accuracy, "float_validation_accuracy": 0.85}
    speed = {"speed_ratio": 1.5, "speed_ratio_p10": slowest, "speed_ratio_p90": 2.0}
    assert verdict(figures | speed, 0.005)["kept"] is kept


def test_ratios_are_of_the_same_batches_in_turn(tmp_path, split):
    (tmp_path / "model.onnx").write_bytes(two_layers(1.0).SerializeToString())
    ratios = quantize.speed_ratios(tmp_path / "model.onnx", tmp_path / "model.onnx", split.images)
    assert ratios.shape == (quantize.ROUNDS,)
    assert 0.5 < np.median(ratios) < 2


@pytest.mark.parametrize("vnni", [True, False])
def test_weights_keep_to_7_bits_where_the_processor_adds_in_16(tmp_path, split, monkeypatch, vnni):
    monkeypatch.setattr(quantize, "has_vnni", lambda: vnni)
    monkeypatch.setattr(quantize, "speed_ratios", lambda *_: np.full(30, 2.0))
    assert earn(tmp_path, two_layers(1.0), split)["reduce_range"] is not vnni
    tensors = onnx.load(tmp_path / "int8.onnx").graph.initializer
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in tensors
        if "first" in tensor.name and tensor.data_type == TensorProto.INT8
    ]
    assert max(np.abs(array.astype(int)).max() for array in weights) == (127 if vnni else 64)
