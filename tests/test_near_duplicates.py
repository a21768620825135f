import csv
import io
import json

import numpy as np
import pytest
from conftest import ROOT, approve, run
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.errors import PipelineError
from pipeline.evaluate import prediction_rows
from pipeline.files import write_csv
from pipeline.generated import CLASS_NAMES, generate
from pipeline.near_duplicates import NearDuplicatesParams, draw, measure, near_duplicates, search
from pipeline.pair_sheet import pair_sheet
from pipeline.predictions import read_correct
from pipeline.splits import SPLIT_NAMES, Split, read_split, write_split
from pipeline.structure import correlation, edge_histograms, mirrored
from pipeline.twins import NEIGHBOURS, Pairs

PARAMS = NearDuplicatesParams(threshold=0.75, pictures=4)
OUTPUTS = ("across.csv", "within.csv", "nearest.csv", "near.json", "near.png")


def scenes(count, seed):
    """Images as rough as photographs: blurred noise of several widths, each as strong, tinted. No two are alike."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, 32, 32, 1)) * random.uniform(0.5, 1, (count, 1, 1, 3))
    layers = [gaussian_filter(noise, (0, width, width, 0), mode="wrap") * width for width in (1, 2, 4)]
    return np.clip(128 + 60 * sum(layers), 0, 255).astype(np.uint8)


def reencoded(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def zoomed(image):
    return np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC, box=(1.5, 1.5, 30.5, 30.5)))


COPIES = {  # what happens to images between one upload and the next
    "the same": lambda image: image,
    "shifted": lambda image: np.roll(image, (2, -1), (0, 1)),
    "mirrored": lambda image: image[:, ::-1],
    "recoloured": lambda image: 40 + image[..., [1, 2, 0]] // 2,
    "grey": lambda image: np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    "re-encoded": reencoded,
    "zoomed": zoomed,
    "all at once": lambda image: reencoded(30 + np.roll(image, (-1, 1), (0, 1))[:, ::-1] // 2),
}


@pytest.fixture
def data(splits, tmp_path):
    """The stage's inputs: training image 10 i has copy i as test image i, and image 7 is mirrored at 450, in validation."""
    parts = {name: read_split(splits[name]) for name in ("train", "validation", "test")}
    for seed, part in enumerate(parts.values()):
        part.images[:] = scenes(len(part.images), seed)
    for place, change in enumerate(COPIES.values()):
        parts["test"].images[place] = change(parts["train"].images[10 * place])
    parts["validation"].images[50] = parts["train"].images[7, :, ::-1]
    for name, part in parts.items():
        write_split(splits[name], part)
    scores = np.eye(10, dtype=np.float32)[parts["test"].labels]
    scores[:4] = np.roll(scores[:4], 1, axis=1)  # of the 8 copies, 4 are told wrong; all others are told right
    write_csv(tmp_path / "predictions.csv", prediction_rows(parts["test"], scores))
    return [splits[name] for name in parts] + [tmp_path / "predictions.csv"]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def approval(data):
    """A validate.json for the three splits."""
    return approve(data[0].with_name("validate.json"), dict(zip(SPLIT_NAMES, data, strict=False)))


def run_on(data, tmp_path, params=PARAMS):
    out = [tmp_path / "out" / name for name in OUTPUTS]
    near_duplicates(params, *data[:3], approval(data), *data[3:], *out)
    return out


def test_every_planted_copy_is_found_and_nothing_else(data, tmp_path):
    across, within, nearest, metrics, picture = run_on(data, tmp_path)
    found = {(int(row["test_index"]), int(row["train_index"])) for row in rows(across)}
    assert found == {(place, 10 * place) for place in range(len(COPIES))}
    scores = [float(row["score"]) for row in rows(across)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1
    assert [(row["train_index"], row["other_train_index"]) for row in rows(within)] == [("7", "450")]
    nearest = rows(nearest)
    assert [row["test_index"] for row in nearest] == [str(index) for index in range(100)]
    assert [int(row["train_index"]) for row in nearest[:8]] == list(range(0, 80, 10))
    assert max(float(row["similarity"]) for row in nearest[8:]) < min(float(row["similarity"]) for row in nearest[:8])
    figures = json.loads(metrics.read_text())
    assert figures["pairs"] == figures["test_images_with_twin"] == 8
    assert (figures["accuracy"], figures["accuracy_without_twins"], figures["accuracy_of_twins"]) == (0.96, 1, 0.5)
    # Wilson, by hand, for 92 of 92: n / (n + z²), z = 1.959964
    assert figures["accuracy_without_twins_low"] == pytest.approx(92 / (92 + 3.841459))
    assert figures["accuracy_without_twins_high"] == 1
    assert figures["training_pairs"] == 1
    labels = np.concatenate([read_split(path).labels for path in data[:3]])
    assert figures["pairs_of_unlike_labels"] == sum(labels[500 + place] != labels[10 * place] for place in range(8))
    assert figures["training_pairs_of_unlike_labels"] == int(labels[7] != labels[450])
    assert Image.open(picture).width > 1000


def test_two_runs_write_the_same_bytes(data, tmp_path):
    first, second = (
        [path.read_bytes() for path in run_on(data, tmp_path / name)] for name in ("one folder", "another")
    )
    assert first == second


def test_images_without_twins_give_tables_without_rows(data, tmp_path):
    test = read_split(data[2])
    write_split(data[2], test._replace(images=scenes(100, seed=9)))
    across, within, nearest, metrics, _ = run_on(data, tmp_path)
    assert across.read_text() == "test_index,train_index,score\n"
    assert len(rows(within)) == 1
    assert len(rows(nearest)) == 100
    figures = json.loads(metrics.read_text())
    assert figures["pairs"] == figures["test_images_with_twin"] == figures["pairs_of_unlike_labels"] == 0
    assert figures["accuracy_without_twins"] == figures["accuracy"]
    assert "accuracy_of_twins" not in figures


def test_where_every_image_has_a_twin_there_is_no_accuracy_without_them():
    figures = measure(np.array([True, False]), np.array([0, 1, 0]))
    assert figures == {
        "pairs": 3,
        "test_images_with_twin": 2,
        "accuracy": 0.5,
        "accuracy_low": figures["accuracy_low"],
        "accuracy_high": figures["accuracy_high"],
        "accuracy_of_twins": 0.5,
        "accuracy_of_twins_low": figures["accuracy_low"],
        "accuracy_of_twins_high": figures["accuracy_high"],
    }


@pytest.mark.filterwarnings("error")
def test_flat_images_are_like_no_other_and_give_no_nan():
    images = scenes(60, seed=3)
    images[:20] = np.arange(20, dtype=np.uint8)[:, None, None, None]
    images[50:] = 200
    best, across, within = search(images[:40], images[40:], 0.75)
    assert best.score[10:].tolist() == [0] * 10
    assert np.isfinite(best.score).all()
    assert not len(across.first)
    assert not len(within.first)
    best, across, within = search(images[:20], images[50:], 0.75)  # flat images alone
    assert (best.score.any(), len(across.first), len(within.first)) == (False, 0, 0)


@pytest.mark.filterwarnings("error")
def test_faint_noise_on_flat_images_is_no_likeness():
    """Of one pattern, what is fainter than re-encoding leaves proves nothing."""
    pattern = np.random.default_rng(0).integers(0, 2, (1, 32, 32, 1), dtype=np.uint8).repeat(3, 3)
    assert correlation(100 + pattern, 50 + pattern)[0] < 0.2
    assert correlation(100 + 60 * pattern, 50 + 30 * pattern)[0] == pytest.approx(1, abs=0.01)


def test_a_zoomed_copy_is_compared_at_its_own_scale():
    images = scenes(20, seed=3)
    copies = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), box=(2, 2, 30, 30))) for image in images])
    assert correlation(images, copies).min() > 0.8  # unscaled, the fine detail of the rims falls out of step
    assert correlation(images, np.roll(images, 1, 0)).max() < 0.6


def test_candidates_are_bounded_where_all_images_are_alike():
    images = scenes(60, seed=3)
    images[10:] = images[10]
    _, across, within = search(images[:50], images[50:], 0.75)
    assert np.bincount(across.first).tolist() == [NEIGHBOURS] * 10
    assert np.bincount(within.first, minlength=50)[10] == NEIGHBOURS
    assert (within.first < within.second).all()


def test_mirrored_histograms_are_those_of_mirror_images():
    images, _ = generate(20, seed=4)
    assert np.abs(mirrored(edge_histograms(images)) - edge_histograms(images[:, :, ::-1])).max() < 1e-5


def test_the_sheet_shows_each_test_image_once_and_unlike_labels_in_red():
    images, labels = generate(4, seed=5)
    split = Split(images, labels, np.arange(4), np.array(CLASS_NAMES), "")
    pairs = Pairs(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.9, 0.8, 0.8]))
    sheet = np.asarray(draw(pairs, split, split, 10))
    assert np.array_equal(sheet, draw(Pairs(*(part[[0, 2]] for part in pairs)), split, split, 10))
    assert not np.array_equal(sheet, draw(pairs, split, split, 1))
    assert not red(sheet)
    assert red(np.asarray(draw(Pairs(np.array([0]), np.array([1]), np.array([0.9])), split, split, 1)))


def red(sheet):
    return bool((sheet == (0xCF, 0x22, 0x2E)).all(-1).any())


def test_an_empty_sheet_says_so():
    empty = (np.zeros((0, 32, 32, 3), np.uint8), [])
    assert (np.asarray(pair_sheet(empty, empty)) < 128).any()


def spoil_predictions(data, change):
    table = rows(data[3])
    change(table)
    write_csv(data[3], table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.pop(), "99 rows, the test split 100 images"),
        (lambda table: table.reverse(), r"names image 599 \(\w+\) where the test split has image 500"),
        (lambda table: table[0].update(actual="nothing"), r"names image 500 \(nothing\) where"),
        (lambda table: [row.pop("predicted") for row in table], "cannot read .*predictions.csv.*'predicted'"),
        (lambda table: table[0].update(archive_index="first"), "cannot read .*predictions.csv.*'first'"),
    ],
)
def test_predictions_of_other_images_are_refused(data, tmp_path, change, message):
    spoil_predictions(data, change)
    with pytest.raises(PipelineError, match=f"{message}.*dvc repro evaluate"):
        run_on(data, tmp_path)
    assert not (tmp_path / "out").exists()


def test_right_predictions_are_told_from_wrong_ones(data):
    assert np.flatnonzero(~read_correct(data[3], read_split(data[2]))).tolist() == [0, 1, 2, 3]


def test_splits_of_two_archives_are_refused(data, tmp_path):
    write_split(data[2], read_split(data[2])._replace(archive_sha256="cd" * 32))
    with pytest.raises(PipelineError, match=r"test.npz comes from another archive \(cdcdcdcd\).*\(abababab\)"):
        run_on(data, tmp_path)


def test_an_archive_with_a_missing_image_is_refused(data, tmp_path):
    validation = read_split(data[1])
    write_split(data[1], Split(*(part[1:] for part in validation[:3]), *validation[3:]))
    with pytest.raises(PipelineError, match=r"599 images, the first out of place at 400\. `dvc repro prepare`"):
        run_on(data, tmp_path)


@pytest.mark.parametrize("threshold", [0.5, 1.1])
def test_a_threshold_that_no_score_can_tell_is_refused(threshold):
    with pytest.raises(PipelineError, match=r"near_duplicates\.threshold"):
        NearDuplicatesParams.of_section("near_duplicates", {"threshold": threshold, "pictures": 1})


def test_the_command_says_what_came_out(data, tmp_path):
    (tmp_path / "params.yaml").write_text("near_duplicates: {threshold: 0.75, pictures: 4}\n")
    done = run(
        tmp_path,
        "pipeline.near_duplicates",
        *data[:3],
        approval(data),
        *data[3:],
        *(tmp_path / name for name in OUTPUTS),
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    assert (
        "8 of 100 test images have a twin among 500 training images; accuracy 0.9600, without them 1.0000"
        in done.stdout
    )


def test_a_split_that_was_not_validated_is_refused(data, tmp_path):
    report = approval(data)
    write_split(data[2], read_split(data[2])._replace(images=scenes(100, seed=9)))
    out = [tmp_path / "out" / name for name in OUTPUTS]
    with pytest.raises(PipelineError, match=r"test\.npz.*dvc repro"):
        near_duplicates(PARAMS, *data[:3], report, *data[3:], *out)
    assert not out[0].exists()
