import json

import numpy as np
import pytest
from PIL import Image
from projects import OWN_VALUES, ROOT, approve, run
from toy_models import paint, write_colour_model

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.data.splits import write_split
from pipeline.suspect_labels import (
    OutOfSample,
    SuspectLabelsParams,
    draw_suspects,
    folds,
    predict_out_of_fold,
    rank_suspects,
    suspect_labels,
)

PARAMS = SuspectLabelsParams(model="basic", epochs=2, batch_size=10, **OWN_VALUES, seed=0, folds=2, pictures=4)
OUTPUTS = {"table": "suspects.csv", "metrics": "suspects.json", "sheet": "suspects.png"}
COLUMNS = ["archive_index", "label", "suggested", "probability_of_label", "probability_of_suggested", "source"]


def make_inputs(folder, train, validation):
    """A model for two splits, the splits, and their validate.json; the stage needs no test split."""
    paths = {"train": folder / "train.npz", "validation": folder / "validation.npz"}
    write_split(paths["train"], train)
    write_split(paths["validation"], validation)
    return {
        "onnx_model": write_colour_model(folder / "model.onnx", train.class_names.tolist(), side=train.side),
        "train_split": paths["train"],
        "validation_split": paths["validation"],
        "verdict": approve(folder / "validate.json", paths | {"test": paths["train"]}),
    }


@pytest.fixture
def inputs(tmp_path):
    """330 painted images, three of them with an incorrect label."""
    return make_inputs(tmp_path, paint(300, wrong=[7, 42]), paint(30, wrong=[0], first=300))


def outputs(folder):
    return {name: folder / file for name, file in OUTPUTS.items()}


def test_exactly_the_incorrect_labels_are_found_and_two_runs_write_the_same_bytes(inputs, tmp_path):
    out, again = outputs(tmp_path / "out"), outputs(tmp_path / "again")
    suspect_labels(PARAMS, **inputs, **out)
    rows = read_csv(out["table"])
    assert list(rows[0]) == COLUMNS
    found = sorted((int(row["archive_index"]), row["label"], row["suggested"], row["source"]) for row in rows)
    assert found == [
        (7, "blue", "green", "out-of-fold"),
        (42, "green", "red", "out-of-fold"),
        (300, "green", "red", "validation"),
    ]
    of_label = [float(row["probability_of_label"]) for row in rows]
    assert of_label == sorted(of_label)
    assert json.loads(out["metrics"].read_text()) == {
        "images": 330,
        "suspects": 3,
        "share": pytest.approx(3 / 330),
        "validation_images": 30,
        "validation_suspects": 1,
        "validation_accuracy": pytest.approx(29 / 30),
        "out_of_fold_images": 300,
        "out_of_fold_suspects": 2,
        "out_of_fold_accuracy": pytest.approx(298 / 300),
    }
    assert Image.open(out["sheet"]).size[1] > 128
    suspect_labels(PARAMS, **inputs, **again)
    assert [path.read_bytes() for path in again.values()] == [path.read_bytes() for path in out.values()]


def test_without_suspects_all_outputs_are_written(tmp_path):
    inputs, out = make_inputs(tmp_path, paint(300), paint(30, first=300)), outputs(tmp_path / "out")
    suspect_labels(PARAMS, **inputs, **out)
    assert out["table"].read_text() == ",".join(COLUMNS) + "\n"
    assert Image.open(out["sheet"]).size[0] > 0
    figures = json.loads(out["metrics"].read_text())
    assert (figures["suspects"], figures["share"]) == (0, 0)


def test_images_of_another_side_with_a_class_of_two_images_are_searched(tmp_path):
    split = paint(240, side=16)
    few = np.flatnonzero(split.labels != 2).tolist() + np.flatnonzero(split.labels == 2)[:2].tolist()
    training = split._replace(**{name: getattr(split, name)[few] for name in ("images", "labels", "archive_index")})
    inputs, out = make_inputs(tmp_path, training, paint(30, first=240, side=16)), outputs(tmp_path / "out")
    suspect_labels(PARAMS.model_copy(update={"folds": 3, "epochs": 3}), **inputs, **out)
    figures = json.loads(out["metrics"].read_text())
    assert (figures["images"], figures["validation_accuracy"]) == (192, 1)
    assert figures["out_of_fold_accuracy"] > 0.9
    assert figures["suspects"] == len(read_csv(out["table"])) < 5


def test_suspects_among_many_classes_of_another_side_are_ranked_and_drawn():
    split = paint(6, side=48)._replace(class_names=np.array([f"class {i}" for i in range(300)]))
    split = split._replace(labels=np.array([299, 299, 43, 43, 43, 299], np.uint16))
    probabilities = np.eye(300, dtype=np.float32)[[299, 299, 43, 43, 299, 43]]
    suspects = rank_suspects([OutOfSample(split, probabilities, "validation")])
    found = [(suspect.archive_index, suspect.label, suspect.suggested) for suspect in suspects]
    assert found == [(4, "class 43", "class 299"), (5, "class 299", "class 43")]
    assert draw_suspects(suspects).size == draw_suspects([s._replace(image=s.image[:32, :32]) for s in suspects]).size


def test_no_network_predicts_an_image_that_it_was_trained_on():
    """Labels of noise can only be memorized: a network that was trained on them would predict nearly all of them."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), np.uint8)
    split = paint(60)._replace(images=noise)
    probabilities = predict_out_of_fold(PARAMS.model_copy(update={"epochs": 30}), split, split)
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.mean(probabilities.argmax(1) == split.labels) < 0.6


def test_folds_are_disjoint_stratified_and_seeded():
    labels = np.repeat([0, 1, 2], [30, 60, 90])
    parts = list(folds(labels, 3, seed=0))
    assert np.sum(parts, axis=0).tolist() == [1] * 180
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[10, 20, 30]] * 3
    assert np.array_equal(parts, list(folds(labels, 3, seed=0)))
    assert not np.array_equal(parts, list(folds(labels, 3, seed=1)))


@pytest.mark.filterwarnings("error")
def test_a_class_with_fewer_images_than_folds_is_in_some_of_them():
    labels = np.repeat(np.array([0, 2, 300, 999], np.uint16), [9, 2, 1, 30])
    parts = list(folds(labels, 3, seed=0))
    assert np.sum(parts, axis=0).tolist() == [1] * 42
    found = np.array([[(labels[part] == name).sum() for name in (0, 2, 300, 999)] for part in parts])
    assert found[:, [0, 3]].tolist() == [[3, 10]] * 3
    assert found.max(0).tolist() == [3, 1, 1, 10]


def test_more_folds_than_images_of_every_class_are_refused():
    message = r"folds is 4, but no class has more than 3 training images.*Lower suspect_labels.folds"
    with pytest.raises(PipelineError, match=message):
        list(folds(np.array([0, 0, 2, 2, 2]), 4, seed=0))


def test_a_batch_larger_than_the_other_folds_names_the_setting_of_this_stage(inputs, tmp_path):
    params = PARAMS.model_copy(update={"batch_size": 151})
    message = r"151 images, but there are only 150 training images\. Lower suspect_labels.batch_size.*make evidence"
    with pytest.raises(PipelineError, match=message):
        suspect_labels(params, **inputs, **outputs(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_a_model_of_other_data_is_refused_before_the_training(inputs, tmp_path):
    write_colour_model(inputs["onnx_model"], class_names=["cat", "dog", "frog"])
    with pytest.raises(PipelineError, match=r'its class_names is \["cat", "dog", "frog"\], that of the splits'):
        suspect_labels(PARAMS, **inputs, **outputs(tmp_path / "out"))


@pytest.mark.parametrize("name", ["train_split", "validation_split"])
def test_splits_that_were_not_validated_are_refused(inputs, tmp_path, name):
    write_split(inputs[name], paint(60))
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        suspect_labels(PARAMS, **inputs, **outputs(tmp_path / "out"))


def test_the_command_refuses_wrong_settings_by_name(tmp_path):
    section = PARAMS.model_dump() | {"folds": 1, "model": "vast"}
    (tmp_path / "params.yaml").write_text(json.dumps({"suspect_labels": section}))
    done = run(tmp_path, "pipeline.suspect_labels", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "suspect_labels.folds is 1, but it should be greater than or equal to 2" in done.stderr
    assert "suspect_labels.model is 'vast', but it should be one of basic, fast, accurate, best" in done.stderr
