import csv

import numpy as np
import pytest
from conftest import ROOT, approve, run
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.files import write_csv
from pipeline.slices import SlicesParams, looks, measure_parts, slices
from pipeline.splits import SPLIT_NAMES, read_split, write_split

PARAMS = SlicesParams(parts=5)


@pytest.fixture
def data(splits, tmp_path):
    """The stage's inputs: 100 test images, the darker the later, the later 40 told wrong, the first the nearest."""
    split = read_split(splits["test"])
    split.images[:] = (250 - 2 * np.arange(100, dtype=np.uint8))[:, None, None, None]
    write_split(splits["test"], split)
    names = split.class_names[split.labels].tolist()
    write_csv(
        tmp_path / "predictions.csv",
        [
            {
                "archive_index": 500 + place,
                "actual": name,
                "predicted": name if place < 60 else "no such class",
                "probability": 0.5,
            }
            for place, name in enumerate(names)
        ],
    )
    write_csv(
        tmp_path / "nearest.csv",
        [{"test_index": place, "train_index": 0, "similarity": f"{1 - place / 100:.2f}"} for place in range(100)],
    )
    return [splits["test"], tmp_path / "predictions.csv", tmp_path / "nearest.csv"]


def approval(data):
    """A validate.json for the three splits, which lie beside each other."""
    folder = data[0].parent
    return approve(folder / "validate.json", {name: folder / f"{name}.npz" for name in SPLIT_NAMES})


def run_on(data, tmp_path):
    out = [tmp_path / "out" / name for name in ("slices.csv", "slices.png")]
    slices(PARAMS, data[0], approval(data), *data[1:], *out)
    with out[0].open(newline="") as file:
        return list(csv.DictReader(file)), out


def test_accuracy_is_told_by_fifths_of_what_images_look_like(data, tmp_path):
    rows, (_, picture) = run_on(data, tmp_path)
    brightness = [row for row in rows if row["slice"] == "brightness"]
    assert [(row["part"], row["low"], row["high"], row["images"], row["accuracy"]) for row in brightness] == [
        ("1", "52.0", "90.0", "20", "0.0"),
        ("2", "92.0", "130.0", "20", "0.0"),
        ("3", "132.0", "170.0", "20", "1.0"),
        ("4", "172.0", "210.0", "20", "1.0"),
        ("5", "212.0", "250.0", "20", "1.0"),
    ]
    # Wilson, by hand, for 20 of 20: n / (n + z²), z = 1.959964
    assert float(brightness[4]["accuracy_low"]) == pytest.approx(20 / (20 + 3.841459))
    assert float(brightness[0]["accuracy_high"]) == pytest.approx(1 - 20 / (20 + 3.841459))
    similarity = [row for row in rows if row["slice"] == "similarity"]
    assert [(row["low"], row["accuracy"]) for row in similarity][::4] == [("0.01", "0.0"), ("0.81", "1.0")]
    flat = [row for row in rows if row["slice"] in ("contrast", "colourfulness")]
    assert [(row["low"], row["images"], row["accuracy"]) for row in flat] == [("0.0", "100", "0.6")] * 2
    assert Image.open(picture).size == (1280, 1050)


def test_two_runs_write_the_same_bytes(data, tmp_path):
    first, second = ([path.read_bytes() for path in run_on(data, tmp_path / name)[1]] for name in ("a", "b"))
    assert first == second


def test_looks_of_hand_made_images():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    images[0] = 100
    images[1, :16] = 200  # black below white
    images[2] = (255, 0, 0)
    measured = looks(images)
    assert measured["brightness"] == pytest.approx([100, 100, 0.299 * 255], rel=1e-5)
    assert measured["contrast"] == pytest.approx([0, 100, 0], abs=1e-4)
    # Red: R - G = 255 and (R + G) / 2 - B = 127.5 everywhere, no spread.
    assert measured["colourfulness"] == pytest.approx([0, 0, 0.3 * np.hypot(255, 127.5)], abs=1e-4)


def test_colourfulness_counts_spread_in_full_and_mean_in_part():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, :16] = (0, 0, 200)  # blue above black: (R + G) / 2 - B is -200 and 0, R - G is 0
    assert looks(images)["colourfulness"] == pytest.approx([100 + 0.3 * 100])


def test_equal_values_stay_in_one_part():
    values = np.array([0.0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    rows = measure_parts("any", values, np.ones(10, bool), parts=5)
    assert [(row["part"], row["low"], row["high"], row["images"]) for row in rows] == [
        (1, 0, 0, 6),
        (4, 1, 2, 2),
        (5, 3, 4, 2),
    ]


def test_parts_hold_every_image_once():
    values = np.random.default_rng(0).normal(size=997)
    rows = measure_parts("any", values, np.zeros(997, bool), parts=7)
    assert sum(row["images"] for row in rows) == 997
    assert {row["images"] for row in rows} <= {142, 143}


def test_predictions_of_other_images_are_refused(data, tmp_path):
    split = read_split(data[0])
    write_split(data[0], split._replace(archive_index=split.archive_index + 1))
    with pytest.raises(
        PipelineError, match=r"names image 500 .* where the test split has image 501.*dvc repro evaluate"
    ):
        run_on(data, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("99,0,0.01\n", "", "each of the 100 test images once and in order, got 99 rows"),
        ("\n5,0,", "\n6,0,", "once and in order, got 100 rows"),
        ("similarity", "distance", "cannot read .*nearest.csv.*'similarity'"),
        ("0.95", "near", "cannot read .*nearest.csv.*'near'"),
        ("0.95", "nan", "nearest.csv has the similarity nan, expected -1 to 1"),
    ],
)
def test_a_table_of_other_nearest_images_is_refused(data, tmp_path, old, new, message):
    text = data[2].read_text()
    assert old in text
    data[2].write_text(text.replace(old, new, 1))
    with pytest.raises(PipelineError, match=f"{message}.*near_duplicates"):
        run_on(data, tmp_path)


def test_the_command_says_where_the_model_is_worst_and_best(data, tmp_path):
    (tmp_path / "params.yaml").write_text("slices: {parts: 5}\n")
    done = run(
        tmp_path,
        "pipeline.slices",
        data[0],
        approval(data),
        *data[1:],
        tmp_path / "s.csv",
        tmp_path / "s.png",
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "slices: accuracy 0.6000; from 0.0000 (brightness 52 to 90) to 1.0000 (brightness 132 to 170)\n"
    )


def test_a_split_that_was_not_validated_is_refused(data, tmp_path):
    report, split = approval(data), read_split(data[0])
    write_split(data[0], split._replace(images=255 - split.images))
    with pytest.raises(PipelineError, match=r"test\.npz.*dvc repro"):
        slices(PARAMS, data[0], report, *data[1:], tmp_path / "s.csv", tmp_path / "s.png")
    assert not (tmp_path / "s.csv").exists()
