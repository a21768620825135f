import json

import numpy as np
import pytest
from projects import approve

import pipeline.export
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json, sha256_of
from pipeline.data.pictures import PREPROCESSING
from pipeline.data.splits import SPLIT_NAMES, read_split, write_split
from pipeline.export import BATCH_SIZES, ExportParams, Parity, compare, export, refuse_difference
from pipeline.models.saving import load_model, read_training_record, save_model
from pipeline.onnx.session import open_session
from pipeline.tracking.lineage import data_tags


class FakeKeras:
    """A model with fixed probabilities, one row per image."""

    def __init__(self, probabilities):
        self.probabilities = np.array(probabilities, np.float32)

    def predict(self, images, **_):
        return self.probabilities[: len(images)]


class FakeSession(FakeKeras):
    def run(self, _, inputs):
        return [self.probabilities[inputs["image"]]]


def compared(keras, session):
    """The parity of two classifiers; an image is the number of its row of probabilities."""
    return compare(FakeKeras(keras), FakeSession(session), np.arange(len(keras)))


def test_equal_models_have_no_difference():
    probabilities = [[0.25, 0.75], [0.5, 0.5]]
    assert compared(probabilities, probabilities) == Parity(images=2, max_abs_difference=0.0, argmax_disagreements=0)


def test_another_class_is_counted_and_an_exact_tie_is_not():
    assert compared([[0.5, 0.5]], [[0.4999, 0.5001]]).argmax_disagreements == 0
    assert compared([[0.5001, 0.4999]], [[0.4999, 0.5001]]).argmax_disagreements == 1


def test_nan_is_refused():
    parity = compared([[0.2, 0.8]], [[0.2, float("nan")]])
    with pytest.raises(PipelineError, match="is not equal to the Keras model"):
        refuse_difference(parity)


@pytest.mark.parametrize("affected", BATCH_SIZES)
def test_a_difference_at_any_of_the_batch_sizes_is_found(affected):
    class DifferentAtOneSize(FakeSession):
        def run(self, _, inputs):
            probabilities = self.probabilities[inputs["image"]]
            return [probabilities + 0.5 if len(inputs["image"]) == affected else probabilities]

    probabilities = np.full((600, 2), 0.25)
    parity = compare(FakeKeras(probabilities), DifferentAtOneSize(probabilities), np.arange(600))
    assert parity.max_abs_difference == 0.5


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_difference_is_refused(difference):
    with pytest.raises(PipelineError, match=r"is not equal to the Keras model.*export.opset"):
        refuse_difference(Parity(1, difference, 0))


def test_another_class_is_refused():
    with pytest.raises(PipelineError, match="1 images get another class"):
        refuse_difference(Parity(9, 1e-7, 1))


@pytest.fixture
def inputs(trained_model, splits):
    return {"model": trained_model, "test_split": splits["test"], "verdict": splits["verdict"]}


def outputs(folder, name="model"):
    return {"onnx_model": folder / f"{name}.onnx", "metrics": folder / f"{name}.json"}


def test_the_exported_file_passes_parity_and_is_logged_in_the_run(inputs, tmp_path):
    export(ExportParams(opset=17), **inputs, **outputs(tmp_path))
    figures = json.loads((tmp_path / "model.json").read_text())
    assert figures["parity_images"] == 100
    assert 0 < figures["parity_max_abs_difference"] < 1e-5
    assert (figures["parity_argmax_disagreements"], figures["opset"]) == (0, 17)
    assert figures["bytes"] == (tmp_path / "model.onnx").stat().st_size
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert (run.info.status, run.data.tags["parity_passed"]) == ("FINISHED", "true")
    assert run.data.tags["onnx_sha256"] == sha256_of(tmp_path / "model.onnx")
    logged = {name: value for name, value in run.data.metrics.items() if name.startswith(("parity_", "onnx_"))}
    assert logged == {name if "parity" in name else f"onnx_{name}": value for name, value in figures.items()}
    assert "model.onnx" in {item.path for item in client.list_artifacts(run.info.run_id)}
    assert "preprocessing" not in open_session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    first = (tmp_path / "model.onnx").read_bytes()
    export(ExportParams(opset=17), **inputs, **outputs(tmp_path, "again"))
    assert (tmp_path / "again.onnx").read_bytes() == first


def test_the_file_names_what_made_the_images_from_pictures_if_the_split_does(inputs, splits, tmp_path):
    write_split(splits["test"], read_split(splits["test"])._replace(preprocessing=PREPROCESSING))
    verdict = approve(splits["verdict"], {name: splits[name] for name in SPLIT_NAMES})
    record = read_training_record(inputs["model"])._replace(data=data_tags(read_json(verdict, "")))
    save_model(load_model(inputs["model"]), inputs["model"], record)
    export(ExportParams(opset=14), **inputs, **outputs(tmp_path))
    metadata = open_session(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    assert metadata["preprocessing"] == PREPROCESSING


def test_a_file_that_fails_parity_does_not_remain_and_its_run_does_not_compete(inputs, tmp_path, monkeypatch):
    real = pipeline.export.to_onnx

    def with_changed_weight(*arguments):
        proto = real(*arguments)
        weights = next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4)
        values = np.frombuffer(weights.raw_data, np.float32).copy()
        values[0] += 0.01
        weights.raw_data = values.tobytes()
        return proto

    monkeypatch.setattr(pipeline.export, "to_onnx", with_changed_weight)
    with pytest.raises(PipelineError, match="is not equal to the Keras model on 100 test images"):
        export(ExportParams(opset=17), **inputs, **outputs(tmp_path))
    assert not list(tmp_path.glob("*model.onnx")) + list(tmp_path.glob("*model.json"))
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert (run.info.status, run.data.tags.get("parity_passed")) == ("FAILED", None)
