import json

import numpy as np
import pytest
from test_evaluate import trained  # noqa: F401

import pipeline.export
from pipeline.errors import PipelineError
from pipeline.export import BATCH_SIZES, ExportParams, compare, export, refuse_difference
from pipeline.files import sha256_of


class FakeKeras:
    """Gives the probabilities it was made with."""

    def __init__(self, scores):
        self.scores = np.array(scores, np.float32)

    def predict(self, images, **_):
        return self.scores[: len(images)]


class FakeSession(FakeKeras):
    def run(self, _, inputs):
        return [self.scores[inputs["image"]]]


def compared(keras, session):
    """The proof for two classifiers whose images are their own row numbers."""
    return compare(FakeKeras(keras), FakeSession(session), np.arange(len(keras)))


def test_equal_models_differ_by_nothing():
    scores = [[0.25, 0.75], [0.5, 0.5]]
    assert compared(scores, scores) == {
        "parity_images": 2,
        "parity_max_abs_difference": 0.0,
        "parity_argmax_disagreements": 0,
    }


def test_another_class_is_counted_and_an_exact_tie_is_not():
    assert compared([[0.5, 0.5]], [[0.4999, 0.5001]])["parity_argmax_disagreements"] == 0
    assert compared([[0.5001, 0.4999]], [[0.4999, 0.5001]])["parity_argmax_disagreements"] == 1


def test_a_probability_that_is_no_number_is_refused():
    proof = compared([[0.2, 0.8]], [[0.2, float("nan")]])
    with pytest.raises(PipelineError, match="is not equal to the Keras model"):
        refuse_difference(proof)


@pytest.mark.parametrize("wrong", BATCH_SIZES)
def test_a_difference_at_any_of_the_batch_sizes_is_found(wrong):
    class WrongAtOneSize(FakeSession):
        def run(self, _, inputs):
            scores = self.scores[inputs["image"]]
            return [scores + 0.5 if len(inputs["image"]) == wrong else scores]

    scores = np.full((600, 2), 0.25)
    proof = compare(FakeKeras(scores), WrongAtOneSize(scores), np.arange(600))
    assert proof["parity_max_abs_difference"] == 0.5


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_difference_is_refused(difference):
    with pytest.raises(PipelineError, match=r"is not equal to the Keras model.*export.opset"):
        refuse_difference(
            {"parity_images": 1, "parity_max_abs_difference": difference, "parity_argmax_disagreements": 0}
        )


def test_another_class_is_refused():
    with pytest.raises(PipelineError, match="1 images get another class"):
        refuse_difference({"parity_images": 9, "parity_max_abs_difference": 1e-7, "parity_argmax_disagreements": 1})


def test_the_exported_file_is_proven_and_stands_in_the_run(trained, tmp_path):  # noqa: F811
    export(ExportParams(opset=17), *trained, tmp_path / "model.onnx", tmp_path / "export.json")
    figures = json.loads((tmp_path / "export.json").read_text())
    assert figures["parity_images"] == 100
    assert 0 < figures["parity_max_abs_difference"] < 1e-5
    assert (figures["parity_argmax_disagreements"], figures["opset"]) == (0, 17)
    assert figures["bytes"] == (tmp_path / "model.onnx").stat().st_size
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert (run.info.status, run.data.tags["parity_passed"]) == ("FINISHED", "true")
    assert run.data.tags["onnx_sha256"] == sha256_of(tmp_path / "model.onnx")
    assert "model.onnx" in {item.path for item in client.list_artifacts(run.info.run_id)}
    first = (tmp_path / "model.onnx").read_bytes()
    export(ExportParams(opset=17), *trained, tmp_path / "again.onnx", tmp_path / "again.json")
    assert (tmp_path / "again.onnx").read_bytes() == first


def test_an_unequal_file_is_not_left_and_its_run_does_not_compete(trained, tmp_path, monkeypatch):  # noqa: F811
    real = pipeline.export.to_onnx

    def spoiled(*arguments):
        proto = real(*arguments)
        weights = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
        values = np.frombuffer(weights.raw_data, np.float32).copy()
        values[0] += 0.01
        weights.raw_data = values.tobytes()
        return proto

    monkeypatch.setattr(pipeline.export, "to_onnx", spoiled)
    with pytest.raises(PipelineError, match="is not equal to the Keras model on 100 test images"):
        export(ExportParams(opset=17), *trained, tmp_path / "model.onnx", tmp_path / "export.json")
    assert not list(tmp_path.glob("*model.onnx")) + list(tmp_path.glob("export.json"))
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert (run.info.status, run.data.tags.get("parity_passed")) == ("FAILED", None)
