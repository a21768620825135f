import numpy as np
import pytest
from PIL import Image
from projects import ROOT, approve, run, words

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, write_csv
from pipeline.data.splits import SPLIT_NAMES, read_split, write_split
from pipeline.slices import BLOCK, SlicesParams, image_properties, measure_parts, slices

PARAMS = SlicesParams(parts=5)


@pytest.fixture
def inputs(splits, tmp_path):
    """100 test images, each darker and less similar to training than the one before; the last 40 are incorrect."""
    split = read_split(splits["test"])
    split.images[:] = (250 - 2 * np.arange(100, dtype=np.uint8))[:, None, None, None]
    write_split(splits["test"], split)
    approve(splits["verdict"], {name: splits[name] for name in SPLIT_NAMES})
    names = split.class_names[split.labels].tolist()
    write_csv(
        tmp_path / "predictions.csv",
        [
            {
                "archive_index": 500 + i,
                "actual": name,
                "predicted": name if i < 60 else "no such class",
                "probability": 0.5,
            }
            for i, name in enumerate(names)
        ],
    )
    write_csv(
        tmp_path / "nearest.csv",
        [{"test_index": i, "train_index": 0, "similarity": f"{1 - i / 100:.2f}"} for i in range(100)],
    )
    return {
        "test_split": splits["test"],
        "verdict": splits["verdict"],
        "predictions": tmp_path / "predictions.csv",
        "nearest": tmp_path / "nearest.csv",
    }


def outputs(folder):
    return {"table": folder / "slices.csv", "plot": folder / "slices.png"}


def run_on(inputs, tmp_path):
    """The stage's outputs, by name."""
    slices(PARAMS, **inputs, **outputs(tmp_path / "out"))
    return outputs(tmp_path / "out")


def test_accuracy_is_measured_on_fifths_of_the_images(inputs, tmp_path):
    out = run_on(inputs, tmp_path)
    rows = read_csv(out["table"])
    assert list(rows[0]) == ["slice", "part", "low", "high", "images", "accuracy", "accuracy_low", "accuracy_high"]
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
    assert Image.open(out["plot"]).size == (1280, 1050)


def test_two_runs_write_the_same_bytes(inputs, tmp_path):
    first, second = (
        [path.read_bytes() for path in run_on(inputs, tmp_path / folder).values()] for folder in ("a", "b")
    )
    assert first == second


def test_properties_of_hand_made_images():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    images[0] = 100
    images[1, :16] = 200  # white above black
    images[2] = (255, 0, 0)
    measured = image_properties(images)
    assert measured["brightness"] == pytest.approx([100, 100, 0.299 * 255], rel=1e-5)
    assert measured["contrast"] == pytest.approx([0, 100, 0], abs=1e-4)
    # Red: R - G = 255 and (R + G) / 2 - B = 127.5 everywhere, no deviation.
    assert measured["colourfulness"] == pytest.approx([0, 0, 0.3 * np.hypot(255, 127.5)], abs=1e-4)


@pytest.mark.parametrize("side", [16, 48, 128])
def test_images_of_any_side_are_measured_in_blocks(side):
    images = np.random.default_rng(0).integers(0, 256, (BLOCK // side**2 // 3 + 2, side, side, 3), np.uint8)
    measured, last = image_properties(images), image_properties(images[-2:])
    assert {len(values) for values in measured.values()} == {len(images)}
    for name, values in last.items():
        assert measured[name][-2:] == pytest.approx(values)


def test_colourfulness_is_the_deviation_and_a_share_of_the_mean():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, :16] = (0, 0, 200)  # blue above black: (R + G) / 2 - B is -200 and 0, R - G is 0
    assert image_properties(images)["colourfulness"] == pytest.approx([100 + 0.3 * 100])


def test_equal_values_stay_in_one_part():
    values = np.array([0.0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    measured = measure_parts(values, np.ones(10, bool), parts=5)
    assert [(part["part"], part["low"], part["high"], part["images"]) for part in measured] == [
        (1, 0, 0, 6),
        (4, 1, 2, 2),
        (5, 3, 4, 2),
    ]


def test_every_image_is_in_one_part():
    values = np.random.default_rng(0).normal(size=997)
    measured = measure_parts(values, np.zeros(997, bool), parts=7)
    assert sum(part["images"] for part in measured) == 997
    assert {part["images"] for part in measured} <= {142, 143}


def test_predictions_of_other_images_are_refused(inputs, tmp_path):
    split = read_split(inputs["test_split"])
    write_split(inputs["test_split"], split._replace(archive_index=split.archive_index + 1))
    approve(inputs["verdict"], dict.fromkeys(SPLIT_NAMES, inputs["test_split"]))
    message = r"lists image 500 .* but the test split has image 501.*dvc repro evaluate"
    with pytest.raises(PipelineError, match=message):
        run_on(inputs, tmp_path)
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
def test_a_table_of_other_nearest_images_is_refused(inputs, tmp_path, old, new, message):
    text = inputs["nearest"].read_text()
    assert old in text
    inputs["nearest"].write_text(text.replace(old, new, 1))
    with pytest.raises(PipelineError, match=f"{message}.*near_duplicates"):
        run_on(inputs, tmp_path)


def test_the_command_prints_where_the_accuracy_is_lowest_and_highest(inputs, tmp_path):
    (tmp_path / "params.yaml").write_text("slices: {parts: 5}\n")
    arguments = words(inputs | outputs(tmp_path))
    done = run(tmp_path, "pipeline.slices", *arguments, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "slices: accuracy 0.6000; lowest 0.0000 (brightness 52 to 90), highest 1.0000 (brightness 132 to 170)\n"
    )


def test_a_split_that_was_not_validated_is_refused(inputs, tmp_path):
    split = read_split(inputs["test_split"])
    write_split(inputs["test_split"], split._replace(images=255 - split.images))
    with pytest.raises(PipelineError, match=r"test\.npz.*dvc repro"):
        run_on(inputs, tmp_path)
    assert not (tmp_path / "out").exists()
