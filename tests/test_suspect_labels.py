import csv
import json

import numpy as np
import pytest
from conftest import ROOT, approve, paint, run, write_colour_model
from PIL import Image

from benchmarks import suspects as benchmark
from pipeline.errors import PipelineError
from pipeline.onnx_model import session_for
from pipeline.splits import read_split, write_split
from pipeline.suspect_labels import SuspectLabelsParams, folds, out_of_fold, suspect_labels

PARAMS = SuspectLabelsParams(model="basic", epochs=2, batch_size=10, learning_rate=None, seed=0, folds=2, pictures=4)
OUTPUTS = ("suspects.csv", "suspects.json", "suspects.png")
COLUMNS = ["archive_index", "label", "suggested", "probability_of_label", "probability_of_suggested", "source"]


def make_inputs(folder, train, validation):
    """Paths of a model, two splits, and a report that approves of them; there is no test split."""
    paths = {"train": folder / "train.npz", "validation": folder / "validation.npz"}
    write_split(paths["train"], train)
    write_split(paths["validation"], validation)
    report = approve(folder / "validate.json", paths | {"test": paths["train"]})
    return [write_colour_model(folder / "model.onnx"), *paths.values(), report]


@pytest.fixture
def inputs(tmp_path):
    """Of 330 painted images, three are labelled as what they are not."""
    return make_inputs(tmp_path, paint(300, wrong=[7, 42]), paint(30, wrong=[0], first=300))


def outputs(folder):
    return [folder / name for name in OUTPUTS]


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_exactly_the_wrong_labels_are_found_in_both_splits_and_again_in_the_same_bytes(inputs, tmp_path):
    suspect_labels(PARAMS, *inputs, *outputs(tmp_path / "out"))
    rows = rows_of(tmp_path / "out/suspects.csv")
    assert list(rows[0]) == COLUMNS
    found = sorted((int(row["archive_index"]), row["label"], row["suggested"], row["source"]) for row in rows)
    assert found == [
        (7, "blue", "green", "out-of-fold"),
        (42, "green", "red", "out-of-fold"),
        (300, "green", "red", "validation"),
    ]
    own = [float(row["probability_of_label"]) for row in rows]
    assert own == sorted(own)
    assert json.loads((tmp_path / "out/suspects.json").read_text()) == {
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
    assert Image.open(tmp_path / "out/suspects.png").size[1] > 128
    suspect_labels(PARAMS, *inputs, *outputs(tmp_path / "again"))
    assert [path.read_bytes() for path in outputs(tmp_path / "again")] == [
        path.read_bytes() for path in outputs(tmp_path / "out")
    ]


def test_where_nothing_is_suspect_table_and_picture_are_there_all_the_same(tmp_path):
    inputs = make_inputs(tmp_path, paint(300), paint(30, first=300))
    suspect_labels(PARAMS, *inputs, *outputs(tmp_path / "out"))
    assert (tmp_path / "out/suspects.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert Image.open(tmp_path / "out/suspects.png").size[0] > 0
    figures = json.loads((tmp_path / "out/suspects.json").read_text())
    assert (figures["suspects"], figures["share"]) == (0, 0)


def test_what_judges_an_image_has_not_learnt_its_label():
    """Labels of noise can be learnt by heart alone: networks that had seen them would name nearly all."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), np.uint8)
    split = paint(60)._replace(images=noise)
    scores = out_of_fold(PARAMS.model_copy(update={"epochs": 30}), split, split)
    assert scores.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.mean(scores.argmax(1) == split.labels) < 0.6


def test_folds_are_disjoint_stratified_and_follow_the_seed():
    labels = np.repeat([0, 1, 2], [30, 60, 90])
    parts = list(folds(labels, 3, seed=0))
    assert np.sum(parts, axis=0).tolist() == [1] * 180
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[10, 20, 30]] * 3
    assert np.array_equal(parts, list(folds(labels, 3, seed=0)))
    assert not np.array_equal(parts, list(folds(labels, 3, seed=1)))


def test_more_folds_than_a_class_has_images_are_refused():
    with pytest.raises(
        PipelineError, match=r"folds is 4, but a class has 3 training images.*Lower suspect_labels.folds"
    ):
        list(folds(np.array([0, 0, 0, 0, 2, 2, 2]), 4, seed=0))


def test_a_batch_larger_than_the_other_folds_names_this_stages_setting(inputs, tmp_path):
    params = PARAMS.model_copy(update={"batch_size": 151})
    with pytest.raises(
        PipelineError, match=r"151 images, but there are 150 to train on\. Lower suspect_labels.batch_size"
    ):
        suspect_labels(params, *inputs, *outputs(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_a_model_made_for_other_data_is_refused_before_anything_learns(inputs, tmp_path):
    write_colour_model(inputs[0], class_names=["cat", "dog", "frog"])
    with pytest.raises(PipelineError, match=r'its class_names is \["cat", "dog", "frog"\], the splits'):
        suspect_labels(PARAMS, *inputs, *outputs(tmp_path / "out"))


@pytest.mark.parametrize("place", [1, 2])
def test_splits_that_were_not_validated_are_refused(inputs, tmp_path, place):
    write_split(inputs[place], paint(60))
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        suspect_labels(PARAMS, *inputs, *outputs(tmp_path / "out"))


def test_the_command_refuses_wrong_settings_by_name(tmp_path):
    section = PARAMS.model_dump() | {"folds": 1, "model": "vast"}
    (tmp_path / "params.yaml").write_text(json.dumps({"suspect_labels": section}))
    done = run(tmp_path, "pipeline.suspect_labels", *range(7), PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "suspect_labels.folds is 1, but it should be greater than or equal to 2" in done.stderr
    assert "suspect_labels.model is 'vast', but it should be one of basic, fast, accurate" in done.stderr


def test_the_benchmark_flips_a_share_to_other_classes_and_finds_it_again(inputs):
    clean = paint(300), paint(50, first=300)
    noisy, wrong = benchmark.flipped(clean[0], share=0.25, seed=0)
    assert wrong.sum() == 75
    assert ((noisy.labels != clean[0].labels) == wrong).all()
    assert len(np.unique((noisy.labels.astype(int) - clean[0].labels)[wrong] % 3)) == 2
    session = session_for(inputs[0], clean[0].class_names.tolist(), read_split(inputs[1]).archive_sha256)
    figures = benchmark.measure(PARAMS, session, *clean)
    assert (figures["images"], figures["flipped"], figures["right_suggestions"]) == (350, 7, 1)
    assert figures["recall"] > 0.7


def test_the_benchmarks_figures_on_a_hand_made_case():
    """Of three flipped labels two are found, and a label that is right stands between them."""
    split = paint(6)._replace(labels=np.array([1, 1, 2, 1, 2, 0], np.uint8))
    scores = np.eye(3, dtype=np.float32)[split.labels] * 0.4 + 0.2
    scores[:3] = [[0.9, 0.1, 0.0], [0.08, 0.04, 0.88], [0.7, 0.1, 0.2]]  # by margin 0.84, 0.8 and 0.5
    figures = benchmark.summarize([benchmark.Judged(split, scores, "out-of-fold")], {0: 0, 2: 1, 4: 1})
    assert figures["suspects"] == 3
    assert figures["recall"] == figures["precision"] == pytest.approx(2 / 3)
    assert figures["right_suggestions"] == 0.5
