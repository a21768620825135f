import numpy as np
from conftest import ROOT
from test_validate import PARAMS

from benchmarks import spoiled
from benchmarks.drift import compare_halves, drift_text, judge, measure_drift
from benchmarks.readme import BEGIN, DRIFT, END
from benchmarks.rows import read_rows
from benchmarks.spoiled import FAINT, HARMLESS, SPOILED, DataSet, data_sets
from pipeline.cifar10 import Archive
from pipeline.drift import summarize
from pipeline.features import image_table
from pipeline.generated import CLASS_NAMES, generate
from pipeline.reference import Reference
from pipeline.splits import Split

LENIENT = PARAMS.model_copy(update={"tolerance": 0.15, "class_imbalance": 1.0})
DATA = Archive(*generate(500, seed=1), *generate(100, seed=2), list(CLASS_NAMES))


def made(each):
    return each.make(DATA, np.random.default_rng(0))


def test_there_are_twenty_spoiled_data_sets_and_five_harmless_ones_and_each_can_be_made():
    assert (len(SPOILED), len(HARMLESS)) == (20, 5)
    for _, name, each in data_sets():
        data = made(each)
        assert data.train_images.dtype == np.uint8, name
        assert data.train_labels.dtype == np.uint8, name
        assert len(data.train_images) == len(data.train_labels)
        same = all(np.array_equal(one, other) for one, other in zip(data[:4], DATA[:4], strict=True))
        assert same == (name == "another split seed"), name


def test_the_data_they_are_made_of_stays_as_it_was():
    before = [each.copy() for each in DATA[:4]]
    for _, _, each in data_sets():
        made(each)
    for one, other in zip(before, DATA[:4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_share_of_the_images_is_changed_and_no_other():
    data = made(spoiled.images(lambda pixels, _: 255 - pixels, 0.2))
    changed = (data.train_images != DATA.train_images).any((1, 2, 3))
    assert 0.14 < changed.mean() < 0.26


def test_labels_are_flipped_to_other_classes_and_swapped_both_ways():
    flipped = made(spoiled.labels(spoiled.flip(0.5))).train_labels
    assert 0.4 < (flipped != DATA.train_labels).mean() < 0.6
    swapped = spoiled.swap(3, 5)(np.array([3, 5, 1], np.uint8), None)
    assert swapped.tolist() == [5, 3, 1]


def reference():
    position = np.arange(600, dtype=np.int32)
    names = np.array(CLASS_NAMES)
    splits = {
        "train": Split(DATA.train_images, DATA.train_labels, position[:500], names, ""),
        "test": Split(DATA.test_images, DATA.test_labels, position[500:], names, ""),
    }
    images = image_table(splits)
    return images, Reference(name="made", archive_sha256="00", parts=summarize(images, list(CLASS_NAMES)))


def test_a_data_set_is_judged_by_the_suite_itself():
    kept = reference()[1]
    dark = judge(LENIENT, DATA, spoiled.images(lambda pixels, _: pixels // 3), kept)
    assert dark["refused"]
    assert "The mean of red is this data set's." in dark["by_params"]
    assert "Images are as bright as the reference's." in dark["by_reference"]
    assert "darker" in dark["words"].split("; ")
    assert not judge(LENIENT, DATA, HARMLESS["mirrored images"], kept)["refused"]


def test_a_sub_sample_passes_with_its_number_and_fails_without():
    kept = reference()[1]
    fewer = HARMLESS["90 % of the images, with their number in params.yaml"]
    assert not judge(LENIENT, DATA, fewer, kept)["refused"]
    assert judge(LENIENT, DATA, DataSet(fewer.make), kept)["by_params"] == [
        "No training image was lost or added.",
        "No test image was lost or added.",
    ]


def test_halves_of_one_data_set_are_within_what_is_granted_to_chance(monkeypatch):
    monkeypatch.setattr("benchmarks.drift.DRAWS", 2)
    found = compare_halves(reference()[0], list(CLASS_NAMES))
    assert (found["draws"], found["figures"], found["above_0"]) == (2, 2 * 2 * 18, 0)
    assert 0 < found["largest_distance"] < found["granted"]


def test_the_table_counts_what_was_refused_and_by_what():
    def row(by_params=(), by_reference=(), words="", drift=None):
        failed = {"by_params": list(by_params), "by_reference": list(by_reference)}
        return {"refused": any(failed.values()), "words": words, "drift": drift or {}} | failed

    text = drift_text(
        {
            "data": "painted images",
            "date": "2026-01-01",
            "limit": 0.02,
            "spoiled": {
                "dark": row(["a", "b"], ["c"], "darker", {"brightness": 0.31, "noise": 0.1}),
                "flipped": row((), ["c"], "labels moved", {"labels": 0.1}),
                "missed": row(),
            },
            "harmless": {"mirrored": row()},
            "faint": {"faint": row()},
            "halves": {"draws": 2, "figures": 72, "above_0": 0, "largest_distance": 0.01, "granted": 0.02},
        }
    )
    assert "**2 of 3 spoiled data sets are refused, 1 of 1 harmless ones pass.**" in text
    assert "catch 1 of the spoiled ones; the other 1 are caught by the reference alone" in text
    assert "| dark | refused | 2 | darker (31% or more) |" in text
    assert "| missed | passed |  |  |" in text
    assert drift_text({}) == ""


def test_the_table_in_the_documentation_is_that_of_the_last_benchmark():
    results = read_rows(ROOT / DRIFT)
    written = (ROOT / "docs/drift.md").read_text().split(BEGIN)[1].split(END)[0].strip()
    assert written == drift_text(results)
    assert [*results["spoiled"], *results["harmless"], *results["faint"]] == [*SPOILED, *HARMLESS, *FAINT]


def test_the_whole_benchmark_runs_on_a_generated_archive(archive, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("benchmarks.drift.data_sets", lambda: [("spoiled", "JPEG", SPOILED["JPEG, quality 30"])])
    monkeypatch.setattr("benchmarks.drift.DRAWS", 1)
    results = measure_drift(archive, "generated")
    assert results["limit"] == 0.02
    assert "fine detail is gone" in results["spoiled"]["JPEG"]["words"]
