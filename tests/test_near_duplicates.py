import json

import numpy as np
import pytest
from PIL import Image
from projects import ROOT, approve, run, words
from scenes import scenes

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, write_csv
from pipeline.data.splits import SPLIT_NAMES, Split, read_split, write_split
from pipeline.data.synthetic import CLASS_NAMES, generate
from pipeline.evaluate import prediction_rows
from pipeline.evidence import matching
from pipeline.evidence.corruptions import reencoded
from pipeline.evidence.matching import NEIGHBOURS, Pairs
from pipeline.evidence.pair_sheet import draw_pair_sheet
from pipeline.near_duplicates import NearDuplicatesParams, measure, near_duplicates, search

PARAMS = NearDuplicatesParams(threshold=0.75, pictures=4)
OUTPUTS = {
    "pairs": "across.csv",
    "training_pairs": "within.csv",
    "nearest": "nearest.csv",
    "metrics": "near.json",
    "headline": "headline.json",
    "sheet": "near.png",
}


def zoomed(image):
    side = len(image)
    box = side * np.array([1.5, 1.5, 30.5, 30.5]) / 32
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box=tuple(box)))


COPIES = {  # what can happen to an image before it is uploaded again
    "the same": lambda image: image,
    "shifted": lambda image: np.roll(image, (2, -1), (0, 1)),
    "mirrored": lambda image: image[:, ::-1],
    "recoloured": lambda image: 40 + image[..., [1, 2, 0]] // 2,
    "grey": lambda image: np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    "re-encoded": lambda image: reencoded(image, 50),
    "zoomed": zoomed,
    "all at once": lambda image: reencoded(30 + np.roll(image, (-1, 1), (0, 1))[:, ::-1] // 2, 50),
}


@pytest.fixture
def inputs(splits, tmp_path):
    """The stage's inputs: test image i is copy i of training image 10 i; validation has image 7, mirrored, at 450."""
    parts = {name: read_split(splits[name]) for name in SPLIT_NAMES}
    for seed, split in enumerate(parts.values()):
        split.images[:] = scenes(len(split.images), seed)
    for i, change in enumerate(COPIES.values()):
        parts["test"].images[i] = change(parts["train"].images[10 * i])
    parts["validation"].images[50] = parts["train"].images[7, :, ::-1]
    for name, split in parts.items():
        write_split(splits[name], split)
    probabilities = np.eye(10, dtype=np.float32)[parts["test"].labels]
    probabilities[:4] = np.roll(probabilities[:4], 1, axis=1)  # 4 of the 8 copies are incorrect, all others correct
    write_csv(tmp_path / "predictions.csv", prediction_rows(parts["test"], probabilities))
    paths = {f"{name}_split": splits[name] for name in SPLIT_NAMES}
    return paths | {"verdict": tmp_path / "validate.json", "predictions": tmp_path / "predictions.csv"}


def approve_splits(inputs):
    approve(inputs["verdict"], {name: inputs[f"{name}_split"] for name in SPLIT_NAMES})


def outputs(folder):
    return {name: folder / file for name, file in OUTPUTS.items()}


def run_on(inputs, tmp_path):
    """The stage's outputs, by name."""
    approve_splits(inputs)
    near_duplicates(PARAMS, **inputs, **outputs(tmp_path / "out"))
    return outputs(tmp_path / "out")


def test_every_copy_is_found_and_nothing_else(inputs, tmp_path):
    out = run_on(inputs, tmp_path)
    across, within, nearest = (read_csv(out[name]) for name in ("pairs", "training_pairs", "nearest"))
    assert {(int(row["test_index"]), int(row["train_index"])) for row in across} == {(i, 10 * i) for i in range(8)}
    scores = [float(row["score"]) for row in across]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    assert [(row["train_index"], row["other_train_index"]) for row in within] == [("7", "450")]
    assert [row["test_index"] for row in nearest] == [str(index) for index in range(100)]
    assert [int(row["train_index"]) for row in nearest[:8]] == list(range(0, 80, 10))
    assert max(float(row["similarity"]) for row in nearest[8:]) < min(float(row["similarity"]) for row in nearest[:8])
    figures = json.loads(out["metrics"].read_text())
    assert figures["pairs"] == figures["test_images_with_duplicate"] == 8
    names = ("accuracy", "accuracy_without_duplicates", "accuracy_of_duplicates")
    assert [figures[name] for name in names] == [0.96, 1, 0.5]
    # Wilson, by hand, for 92 of 92: n / (n + z²), z = 1.959964
    assert figures["accuracy_without_duplicates_low"] == pytest.approx(92 / (92 + 3.841459))
    assert figures["accuracy_without_duplicates_high"] == 1
    assert figures["training_pairs"] == 1
    labels = np.concatenate([read_split(inputs[f"{name}_split"]).labels for name in SPLIT_NAMES])
    assert figures["pairs_with_different_labels"] == sum(labels[500 + i] != labels[10 * i] for i in range(8))
    assert figures["training_pairs_with_different_labels"] == int(labels[7] != labels[450])
    assert json.loads(out["headline"].read_text()) == {"accuracy_without_duplicates": 1}
    assert Image.open(out["sheet"]).width > 1000


@pytest.mark.parametrize("side", [48, 50, 96])
def test_copies_of_images_of_another_side_are_found_and_nothing_else(side, monkeypatch):
    monkeypatch.setattr(matching, "SIMILARITIES", 600)  # two queries at once
    training, test = scenes(300, 1, side), scenes(60, 2, side)
    for i, change in enumerate(COPIES.values()):
        test[i] = change(training[10 * i])
    training[299] = training[7, :, ::-1]
    nearest, across, within = search(training, test, 0.75)
    assert sorted(zip(across.first, across.second, strict=True)) == [(i, 10 * i) for i in range(8)]
    assert list(zip(within.first, within.second, strict=True)) == [(7, 299)]
    assert nearest.second[:8].tolist() == list(range(0, 80, 10))
    assert nearest.score[8:].max() < nearest.score[:8].min()


def test_rescored_pairs_are_the_same_in_any_number_of_blocks(monkeypatch):
    images = scenes(20, 1, 48)
    descriptors, _ = matching.describe(images, images)
    pairs = Pairs(np.arange(19), np.arange(1, 20), np.full(19, 0.5, np.float32))
    arguments = pairs, (images, images), (descriptors, descriptors)
    together = matching.rescore(*arguments).score
    monkeypatch.setattr(matching, "PAIRS", images[0].nbytes)
    assert matching.rescore(*arguments).score == pytest.approx(together, abs=1e-5)


def test_two_runs_write_the_same_bytes(inputs, tmp_path):
    first, second = (
        {name: path.read_bytes() for name, path in run_on(inputs, tmp_path / folder).items()}
        for folder in ("one folder", "another")
    )
    assert first == second


def test_without_near_duplicates_the_table_has_no_rows(inputs, tmp_path):
    test = read_split(inputs["test_split"])
    write_split(inputs["test_split"], test._replace(images=scenes(100, seed=9)))
    out = run_on(inputs, tmp_path)
    assert out["pairs"].read_text() == "test_index,train_index,score\n"
    assert len(read_csv(out["training_pairs"])) == 1
    assert len(read_csv(out["nearest"])) == 100
    figures = json.loads(out["metrics"].read_text())
    names = ("pairs", "test_images_with_duplicate", "pairs_with_different_labels")
    assert [figures[name] for name in names] == [0, 0, 0]
    assert figures["accuracy_without_duplicates"] == figures["accuracy"]
    assert "accuracy_of_duplicates" not in figures


def test_if_every_image_has_a_near_duplicate_there_is_no_accuracy_without_them():
    figures = measure(np.array([True, False]), np.array([0, 1, 0]))
    assert figures == {
        "pairs": 3,
        "test_images_with_duplicate": 2,
        "accuracy": 0.5,
        "accuracy_low": figures["accuracy_low"],
        "accuracy_high": figures["accuracy_high"],
        "accuracy_of_duplicates": 0.5,
        "accuracy_of_duplicates_low": figures["accuracy_low"],
        "accuracy_of_duplicates_high": figures["accuracy_high"],
    }


@pytest.mark.filterwarnings("error")
def test_flat_images_are_similar_to_no_image_and_give_no_nan():
    images = scenes(60, seed=3)
    images[:20] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    images[50:] = 200
    nearest, across, within = search(images[:40], images[40:], 0.75)
    assert nearest.score[10:].tolist() == [0] * 10
    assert np.isfinite(nearest.score).all()
    assert not len(across.first)
    assert not len(within.first)
    nearest, across, within = search(images[:20], images[50:], 0.75)  # only flat images
    assert (nearest.score.any(), len(across.first), len(within.first)) == (False, 0, 0)


def test_candidates_are_bounded_if_all_images_are_alike():
    images = scenes(60, seed=3)
    images[10:] = images[10]
    _, across, within = search(images[:50], images[50:], 0.75)
    assert np.bincount(across.first).tolist() == [NEIGHBOURS] * 10
    assert np.bincount(within.first, minlength=50)[10] == NEIGHBOURS
    assert (within.first < within.second).all()


def test_the_sheet_has_each_test_image_once_and_different_labels_in_red():
    images, labels = generate(4, seed=5)
    split = Split(images, labels, np.arange(4), np.array(CLASS_NAMES), "")
    pairs = Pairs(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.9, 0.8, 0.8]))
    sheet = np.asarray(draw_pair_sheet(pairs, split, split, 10))
    once = Pairs(*(column[[0, 2]] for column in pairs))
    assert np.array_equal(sheet, draw_pair_sheet(once, split, split, 10))
    assert not np.array_equal(sheet, draw_pair_sheet(pairs, split, split, 1))
    assert not has_red(sheet)
    different = Pairs(np.array([0]), np.array([1]), np.array([0.9]))
    assert has_red(np.asarray(draw_pair_sheet(different, split, split, 1)))


def has_red(sheet):
    return bool((sheet == (0xCF, 0x22, 0x2E)).all(-1).any())


def test_predictions_of_other_images_are_refused(inputs, tmp_path):
    write_csv(inputs["predictions"], read_csv(inputs["predictions"])[:-1])
    with pytest.raises(PipelineError, match=r"99 rows.*100 images.*dvc repro evaluate"):
        run_on(inputs, tmp_path)
    assert not (tmp_path / "out").exists()


def test_splits_of_two_archives_are_refused(inputs, tmp_path):
    write_split(inputs["test_split"], read_split(inputs["test_split"])._replace(archive_sha256="cd" * 32))
    with pytest.raises(PipelineError, match=r"test.npz is from another archive \(cdcdcdcd\).*\(abababab\)"):
        run_on(inputs, tmp_path)


def test_an_archive_with_a_missing_image_is_refused(inputs, tmp_path):
    validation = read_split(inputs["validation_split"])
    write_split(inputs["validation_split"], Split(*(array[1:] for array in validation[:3]), *validation[3:]))
    message = r"599 images, the first unexpected one at position 400\. `dvc repro prepare`"
    with pytest.raises(PipelineError, match=message):
        run_on(inputs, tmp_path)


@pytest.mark.parametrize("threshold", [0.5, 1.1])
def test_a_threshold_outside_of_the_range_of_scores_is_refused(threshold):
    with pytest.raises(PipelineError, match=r"near_duplicates\.threshold"):
        NearDuplicatesParams.of_section("near_duplicates", {"threshold": threshold, "pictures": 1})


def test_the_command_prints_the_result(inputs, tmp_path):
    (tmp_path / "params.yaml").write_text("near_duplicates: {threshold: 0.75, pictures: 4}\n")
    approve_splits(inputs)
    arguments = words(inputs | outputs(tmp_path))
    done = run(tmp_path, "pipeline.near_duplicates", *arguments, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert (
        "8 of 100 test images have a near duplicate among 500 training images; "
        "accuracy 0.9600, without them 1.0000" in done.stdout
    )


def test_a_split_that_was_not_validated_is_refused(inputs, tmp_path):
    approve_splits(inputs)
    write_split(inputs["test_split"], read_split(inputs["test_split"])._replace(images=scenes(100, seed=9)))
    out = outputs(tmp_path / "out")
    with pytest.raises(PipelineError, match=r"test\.npz.*dvc repro"):
        near_duplicates(PARAMS, **inputs, **out)
    assert not out["pairs"].exists()
