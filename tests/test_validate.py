import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from scenes import scenes
from validation_runs import PARAMS, change_all, change_split, run_validate, write_reference

from pipeline.common.errors import PipelineError
from pipeline.data.splits import SPLIT_NAMES, Split, read_split, require_validated, write_split
from pipeline.validation.settings import ValidateParams


def test_good_data_passes_and_train_accepts_its_files(splits, tmp_path, capsys):
    verdict = run_validate(splits, tmp_path)
    facts = tuple(verdict[key] for key in ("success", "failed", "images", "archive_sha256"))
    assert facts == (True, 0, 600, "ab" * 32)
    assert verdict["expectations"] >= 20
    require_validated(tmp_path / "v.json", **{name: splits[name] for name in SPLIT_NAMES})
    assert "All 24 expectations are met" in (tmp_path / "docs/index.html").read_text()
    assert json.loads((tmp_path / "drift.json").read_text()) == {"compared": False}
    assert "contains no reference, so drift was not checked" in capsys.readouterr().out


def black(images):
    images[3] = 0
    return images


def relabel(old, new):
    return lambda labels: np.where(labels == old, new, labels).astype(np.uint8)


def shuffled(labels):
    return np.random.default_rng(0).choice(10, len(labels), p=[0.3, 0.1, *[0.075] * 8]).astype(np.uint8)


DAMAGED = [
    # split, change, words of the message
    ("train", {"images": black}, r"No image is constant.*observed: 0\n    rows: archive_index 3\n"),
    ("train", {"images": lambda images: images[..., ::-1]}, "The channels are in the order red, green, blue"),
    ("test", {"images": lambda images: images // 2}, "not darkened or scaled to 0..1"),
    ("test", {"images": lambda images: images // 2 + 128}, "not brightened or rescaled"),
    (
        "train",
        {"labels": relabel(4, 5)},
        r"No class is missing.*rows: class_name cross|classes are balanced.*rows: class_name cross",
    ),
    ("train", {"labels": shuffled}, r"classes are balanced.*rows: class_name disc"),
    ("train", {"labels": relabel(4, 77)}, r"Every label has a class name.*observed: 77, 77"),
    (
        "test",
        {"archive_index": lambda index: index - 500},
        "No image is in two splits or twice in one.*rows: archive_index 0, 1, 2, 3, 4",
    ),
    ("test", {"archive_index": lambda index: index + 1000}, "Every image has a position in the archive"),
    ("test", {"images": lambda images: images[:, :31]}, "Images have the height"),
    ("test", {"images": lambda images: images[:, :, :31]}, "Images have the width"),
    ("train", {"images": lambda images: images[:, :, :31]}, r"Images have the width.*one of 32.*observed: 31\n"),
    ("test", {"images": lambda images: images[..., :1]}, "Images have a red, a green and a blue channel"),
    ("test", {"images": lambda images: images.astype(np.float32)}, "Pixels are bytes"),
    ("test", {name: lambda values: values[:0] for name in ("images", "labels", "archive_index")}, "No split is empty"),
]


@pytest.mark.parametrize(
    ("name", "changes", "message"), DAMAGED, ids=[f"{name}-{words[:24]}" for name, _, words in DAMAGED]
)
def test_damaged_data_is_refused_with_what_was_observed(splits, tmp_path, name, changes, message):
    change_split(splits, name, **changes)
    with pytest.raises(PipelineError, match=f"(?s){message}.*index.html.*dvc repro"):
        run_validate(splits, tmp_path)
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert verdict["success"] is False
    assert verdict["failed"] >= 1
    assert (tmp_path / "docs/index.html").exists()
    with pytest.raises(PipelineError, match="failed validation"):
        require_validated(tmp_path / "v.json", train=splits["train"])


def make_splits(folder, classes, side):
    """Splits of 600 images with 2 or more of each class in training and 1 or more in test; the first has the most."""
    shares = 1.0 / np.arange(1, classes + 1)
    random, names, paths = np.random.default_rng(0), np.array([f"class {i}" for i in range(classes)]), {}
    for seed, (name, count) in enumerate({"train": 350, "validation": 50, "test": 200}.items()):
        extra = random.choice(classes, count, p=shares / shares.sum())
        labels = np.concatenate([np.arange(classes), np.arange(classes), extra])[:count].astype(np.uint16)
        position = np.arange(count, dtype=np.int32) + {"train": 0, "validation": 350, "test": 400}[name]
        paths[name] = folder / f"{name}.npz"
        write_split(paths[name], Split(scenes(count, seed, side), labels, position, names, "ab" * 32))
    return paths


@pytest.mark.parametrize(("classes", "side"), [(3, 48), (120, 16)])
def test_unequal_classes_of_any_side_pass_without_a_limit_and_drift_is_compared(tmp_path, classes, side):
    splits = make_splits(tmp_path, classes, side)
    counts = {"train_images": 400, "test_images": 200, "channel_means": [0.5] * 3, "channel_spreads": [0.2] * 3}
    section = PARAMS.model_dump() | counts | {"tolerance": 0.2, "class_imbalance": None}
    params = ValidateParams.of_section("validate", section)
    assert run_validate(splits, tmp_path, params)["expectations"] == 23
    write_reference(splits, tmp_path, "v.json")
    assert run_validate(splits, tmp_path, params)["success"] is True
    assert json.loads((tmp_path / "drift.json").read_text())["failed"] == 0


def test_a_limit_of_imbalance_is_a_share_or_null():
    with pytest.raises(
        PipelineError, match=r"validate\.class_imbalance is 2, but it should be less than or equal to 1"
    ):
        ValidateParams.of_section("validate", PARAMS.model_dump() | {"class_imbalance": 2})


def test_a_label_beyond_many_classes_is_refused_in_one_short_message(tmp_path):
    splits = make_splits(tmp_path, 120, 16)
    change_split(splits, "test", labels=lambda labels: np.where(labels == 0, 300, labels).astype(np.uint16))
    with pytest.raises(PipelineError, match=r"expected: label one of 0, 1, 2, …, 119 \("):
        run_validate(splits, tmp_path, PARAMS)


@pytest.mark.parametrize("side", [15, 129])
def test_images_of_a_side_that_no_network_has_are_refused(tmp_path, side):
    splits = make_splits(tmp_path, 3, 16)
    change_all(splits, images=lambda images: np.zeros((len(images), side, side, 3), np.uint8))
    with pytest.raises(PipelineError, match=rf"(?s)Images have the height.*height 16 to 128.*observed: {side}, {side}"):
        run_validate(splits, tmp_path)


def test_a_test_image_copied_into_train_is_refused_with_both_indices(splits, tmp_path):
    copied = read_split(splits["test"]).images[7]

    def insert(images):
        images[11] = copied
        return images

    change_split(splits, "train", images=insert)
    with pytest.raises(PipelineError, match=r"(?s)No image occurs in two splits.*rows: archive_index 11, 507\n"):
        run_validate(splits, tmp_path)


def test_an_image_repeated_within_a_split_is_refused(splits, tmp_path):
    def repeat(images):
        images[:10] = images[10:20]
        return images

    change_split(splits, "train", images=repeat)
    with pytest.raises(PipelineError, match=r"(?s)Almost no image occurs twice.*99% of the rows.*observed: 2, 2"):
        run_validate(splits, tmp_path)


def test_a_reference_does_not_change_the_verdict_on_which_train_depends(splits, tmp_path):
    run_validate(splits, tmp_path)
    before = (tmp_path / "v.json").read_bytes()
    write_reference(splits, tmp_path, "v.json")
    run_validate(splits, tmp_path)
    assert (tmp_path / "v.json").read_bytes() == before
    facts = json.loads((tmp_path / "drift.json").read_text())
    assert (facts["compared"], facts["expectations"], facts["failed"]) == (True, 18, 0)
    assert set(facts["training"].values()) == {0.0}


def test_mirrored_and_shuffled_images_are_not_drift(splits, tmp_path):
    write_reference(splits, tmp_path)
    order = np.random.default_rng(0).permutation(100)
    for name in ("validation", "test"):
        change_split(splits, name, images=lambda images: images[order], labels=lambda labels: labels[order])
    change_all(splits, images=lambda images: images[:, :, ::-1])
    assert run_validate(splits, tmp_path)["success"] is True


LENIENT = PARAMS.model_copy(update={"tolerance": 1.0, "class_imbalance": 1.0, "darkest": 255, "brightest": 0})
DRIFTED = [
    ("brighter", {"images": lambda images: np.minimum(images, 180) + 75}),
    ("blurred", {"images": lambda images: images // 2 + np.roll(images, 1, 1) // 2}),
    ("labels moved", {"labels": lambda labels: (labels + 1) % 10}),
    ("more images of cross", {"labels": lambda labels: np.where(labels > 4, 4, labels).astype(np.uint8)}),
]


@pytest.mark.parametrize(("words", "changes"), DRIFTED, ids=[words for words, _ in DRIFTED])
def test_the_message_says_what_drifted(splits, tmp_path, words, changes):
    write_reference(splits, tmp_path)
    change_all(splits, **changes)
    with pytest.raises(
        PipelineError,
        match=rf"(?s)drift at most 0.02.*observed: .*Changes from the reference: [^\n]*{words}.*write {{}} to",
    ):
        run_validate(splits, tmp_path, LENIENT)
    assert json.loads((tmp_path / "drift.json").read_text())["failed"] >= 1
    assert words in (tmp_path / "docs/index.html").read_text()


@pytest.mark.parametrize(
    ("key", "message"), [("train_images", "No training image was lost"), ("test_images", "No test image was lost")]
)
def test_another_number_of_images_is_refused(splits, tmp_path, key, message):
    with pytest.raises(PipelineError, match=message):
        run_validate(splits, tmp_path, PARAMS.model_copy(update={key: 501}))


def test_at_most_five_unexpected_rows_are_listed(splits, tmp_path):
    change_split(splits, "train", images=lambda images: images * 0)
    with pytest.raises(PipelineError) as refusal:
        run_validate(splits, tmp_path)
    rows = [line for line in str(refusal.value).splitlines() if line.startswith("    rows: ")]
    assert max(line.count(",") for line in rows) == 4


def test_a_temporary_folder_on_another_filesystem_works(splits, tmp_path, monkeypatch):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second filesystem at /dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    assert run_validate(splits, tmp_path)["success"] is True
    assert (tmp_path / "docs/index.html").exists()
