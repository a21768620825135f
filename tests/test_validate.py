import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.reference import keep_reference
from pipeline.splits import SPLIT_NAMES, read_split, require_validated, write_split
from pipeline.validate import ValidateParams, validate

PARAMS = ValidateParams(
    train_images=500,
    test_images=100,
    channel_means=[0.51, 0.47, 0.43],
    channel_spreads=[0.3, 0.28, 0.26],
    tolerance=0.08,
    darkest=0,
    brightest=255,
    class_imbalance=0.3,
    minimum_image_spread=0.01,
    repeated_images=0.01,
    drift=0.02,
)


def run(splits, folder, params=PARAMS):
    """validate.json of the splits, compared with the reference in `folder`, where one was kept."""
    reference = folder / "reference.json"
    if not reference.exists():
        reference.write_text("{}")
    outputs = [folder / name for name in ("v.json", "drift.json", "docs")]
    validate(params, *(splits[name] for name in SPLIT_NAMES), reference, *outputs)
    return json.loads(outputs[0].read_text())


def keep(splits, folder, report="v.json"):
    """Keep a reference of these splits in `folder`, from their verdict there."""
    keep_reference(*(splits[name] for name in SPLIT_NAMES), folder / report, folder / "reference.json")


def spoil(splits, name, **changes):
    """Rewrite a split with other content: spoil(splits, "test", images=lambda images: ...)."""
    split = read_split(splits[name])
    write_split(
        splits[name], split._replace(**{key: change(getattr(split, key).copy()) for key, change in changes.items()})
    )


def test_good_data_passes_and_train_may_use_these_very_files(splits, tmp_path, capsys):
    report = run(splits, tmp_path)
    assert (report["success"], report["failed"], report["images"], report["archive_sha256"]) == (
        True,
        0,
        600,
        "ab" * 32,
    )
    assert report["expectations"] >= 20
    require_validated(tmp_path / "v.json", *(splits[name] for name in SPLIT_NAMES))
    assert "All 24 expectations are met" in (tmp_path / "docs/index.html").read_text()
    assert json.loads((tmp_path / "drift.json").read_text()) == {"compared": False}
    assert "keeps no reference" in capsys.readouterr().out


def black(images):
    images[3] = 0
    return images


def relabel(old, new):
    return lambda labels: np.where(labels == old, new, labels).astype(np.uint8)


def shuffled(labels):
    return np.random.default_rng(0).choice(10, len(labels), p=[0.3, 0.1, *[0.075] * 8]).astype(np.uint8)


SPOILED = [
    # split, what is done to it, words of the message
    ("train", {"images": black}, r"No image is constant.*observed: 0\n.*in: 3\b"),
    ("train", {"images": lambda images: images[..., ::-1]}, "The channels are in the order red, green, blue"),
    ("test", {"images": lambda images: images // 2}, "not darkened or scaled"),
    ("test", {"images": lambda images: images // 2 + 128}, "not brightened or rescaled"),
    ("train", {"labels": relabel(4, 5)}, r"No class is missing.*in: cross|classes are balanced.*in: cross"),
    ("train", {"labels": shuffled}, r"classes are balanced.*in: disc"),
    ("train", {"labels": relabel(4, 77)}, r"Every label has a class name.*observed: 77, 77"),
    (
        "test",
        {"archive_index": lambda index: index - 500},
        "No image is in two splits or twice in one.*in: 0, 1, 2, 3, 4",
    ),
    ("test", {"archive_index": lambda index: index + 1000}, "Every image can be traced to the archive"),
    ("test", {"images": lambda images: images[:, :31]}, "Images have the height"),
    ("test", {"images": lambda images: images[:, :, :31]}, "Images have the width"),
    ("test", {"images": lambda images: images[..., :1]}, "Images have a red, a green and a blue channel"),
    ("test", {"images": lambda images: images.astype(np.float32)}, "Pixels are bytes"),
    ("test", {name: lambda values: values[:0] for name in ("images", "labels", "archive_index")}, "No split is empty"),
]


@pytest.mark.parametrize(
    ("name", "changes", "message"), SPOILED, ids=[f"{name}-{words[:24]}" for name, _, words in SPOILED]
)
def test_spoiled_data_is_refused_with_what_was_seen(splits, tmp_path, name, changes, message):
    spoil(splits, name, **changes)
    with pytest.raises(PipelineError, match=f"(?s){message}.*index.html.*dvc repro"):
        run(splits, tmp_path)
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["success"] is False
    assert report["failed"] >= 1
    assert (tmp_path / "docs/index.html").exists()
    with pytest.raises(PipelineError, match="failed validation"):
        require_validated(tmp_path / "v.json", splits["train"])


def test_a_test_image_copied_into_train_is_refused_with_both_indices(splits, tmp_path):
    copied = read_split(splits["test"]).images[7]

    def insert(images):
        images[11] = copied
        return images

    spoil(splits, "train", images=insert)
    with pytest.raises(PipelineError, match=r"(?s)No image occurs in two splits.*in: 11, 507\b"):
        run(splits, tmp_path)


def test_an_image_repeated_within_a_split_is_refused(splits, tmp_path):
    def repeat(images):
        images[:10] = images[10:20]
        return images

    spoil(splits, "train", images=repeat)
    with pytest.raises(PipelineError, match=r"(?s)Hardly an image occurs twice.*99% of the rows.*observed: 2, 2"):
        run(splits, tmp_path)


def spoil_all(splits, **changes):
    for name in SPLIT_NAMES:
        spoil(splits, name, **changes)


def kept(splits, tmp_path):
    """Splits of which a reference is kept."""
    keep(splits, tmp_path, "validate.json")
    return splits


def test_a_reference_changes_no_byte_of_the_verdict_on_which_train_depends(splits, tmp_path):
    run(splits, tmp_path)
    before = (tmp_path / "v.json").read_bytes()
    keep(splits, tmp_path)
    run(splits, tmp_path)
    assert (tmp_path / "v.json").read_bytes() == before
    facts = json.loads((tmp_path / "drift.json").read_text())
    assert (facts["compared"], facts["expectations"], facts["failed"]) == (True, 18, 0)
    assert set(facts["training"].values()) == {0.0}


def test_mirrored_and_shuffled_images_are_no_drift(splits, tmp_path):
    kept(splits, tmp_path)
    order = np.random.default_rng(0).permutation(100)
    for name in ("validation", "test"):
        spoil(splits, name, images=lambda images: images[order], labels=lambda labels: labels[order])
    spoil_all(splits, images=lambda images: images[:, :, ::-1])
    assert run(splits, tmp_path)["success"] is True


LENIENT = PARAMS.model_copy(update={"tolerance": 1.0, "class_imbalance": 1.0, "darkest": 255, "brightest": 0})
DRIFTED = [
    ("brighter", {"images": lambda images: np.minimum(images, 180) + 75}),
    ("blurred", {"images": lambda images: images // 2 + np.roll(images, 1, 1) // 2}),
    ("labels moved", {"labels": lambda labels: (labels + 1) % 10}),
    ("more images of cross", {"labels": lambda labels: np.where(labels > 4, 4, labels).astype(np.uint8)}),
]


@pytest.mark.parametrize(("words", "changes"), DRIFTED, ids=[words for words, _ in DRIFTED])
def test_what_drifted_is_named(splits, tmp_path, words, changes):
    kept(splits, tmp_path)
    spoil_all(splits, **changes)
    with pytest.raises(
        PipelineError, match=rf"(?s)drift at most 0.02.*observed: .*Against the reference [^\n]*{words}.*write {{}}"
    ):
        run(splits, tmp_path, LENIENT)
    assert json.loads((tmp_path / "drift.json").read_text())["failed"] >= 1
    assert words in (tmp_path / "docs/index.html").read_text()


@pytest.mark.parametrize(
    ("key", "message"), [("train_images", "No training image was lost"), ("test_images", "No test image was lost")]
)
def test_another_number_of_images_is_refused(splits, tmp_path, key, message):
    with pytest.raises(PipelineError, match=message):
        run(splits, tmp_path, PARAMS.model_copy(update={key: 501}))


def test_at_most_five_offenders_are_named(splits, tmp_path):
    spoil(splits, "train", images=lambda images: images * 0)
    with pytest.raises(PipelineError) as refusal:
        run(splits, tmp_path)
    named = [line for line in str(refusal.value).splitlines() if line.startswith("    in: ")]
    assert max(line.count(",") for line in named) == 4


def test_a_temporary_folder_on_another_filesystem_serves(splits, tmp_path, monkeypatch):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second filesystem at /dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", str(other))
    assert run(splits, tmp_path)["success"] is True
    assert (tmp_path / "docs/index.html").exists()
