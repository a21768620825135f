import numpy as np
from projects import ROOT
from validation_runs import PARAMS

from benchmarks.changed_data import DAMAGED, HARMLESS, DataSet, change_images, data_sets
from benchmarks.drift import check_data_set, compare_halves, drift_text, measure_drift
from benchmarks.readme import DRIFT
from benchmarks.rows import read_rows
from pipeline.data.archive import Archive
from pipeline.data.splits import Split
from pipeline.data.synthetic import CLASS_NAMES, generate
from pipeline.validation.drift import summarize
from pipeline.validation.reference import Reference
from pipeline.validation.tables import image_table

LENIENT = PARAMS.model_copy(update={"tolerance": 0.15, "class_imbalance": 1.0})
DATA = Archive(*generate(500, seed=1), *generate(100, seed=2), list(CLASS_NAMES))


def images_and_reference():
    position = np.arange(600, dtype=np.int32)
    names = np.array(CLASS_NAMES)
    splits = {
        "train": Split(DATA.train_images, DATA.train_labels, position[:500], names, ""),
        "test": Split(DATA.test_images, DATA.test_labels, position[500:], names, ""),
    }
    images = image_table(splits)
    return images, Reference(name="made", archive_sha256="00", parts=summarize(images, list(CLASS_NAMES)))


def test_a_data_set_is_checked_by_the_validation_of_the_stage():
    reference = images_and_reference()[1]
    dark = check_data_set(LENIENT, DATA, change_images(lambda images, _: images // 3), reference)
    assert dark["refused"]
    assert "The mean of red matches section validate of params.yaml." in dark["by_params"]
    assert "Images are as bright as in the reference." in dark["by_reference"]
    assert "darker" in dark["words"].split("; ")
    assert not check_data_set(LENIENT, DATA, HARMLESS["mirrored images"], reference)["refused"]


def test_a_sub_sample_passes_with_its_number_and_fails_without():
    reference = images_and_reference()[1]
    fewer = HARMLESS["90 % of the images, with their number in params.yaml"]
    assert not check_data_set(LENIENT, DATA, fewer, reference)["refused"]
    assert check_data_set(LENIENT, DATA, DataSet(fewer.make), reference)["by_params"] == [
        "No training image was lost or added.",
        "No test image was lost or added.",
    ]


def test_differences_between_halves_of_one_data_set_count_as_chance(monkeypatch):
    monkeypatch.setattr("benchmarks.drift.DRAWS", 2)
    found = compare_halves(images_and_reference()[0], list(CLASS_NAMES))
    assert (found["draws"], found["figures"], found["above_0"]) == (2, 2 * 2 * 18, 0)
    assert 0 < found["largest_distance"] < found["chance_bound"]


def test_the_table_counts_what_was_refused_and_by_what():
    def row(by_params=(), by_reference=(), words="", drift=None):
        failed = {"by_params": list(by_params), "by_reference": list(by_reference)}
        return {"refused": any(failed.values()), "words": words, "drift": drift or {}} | failed

    text = drift_text(
        {
            "data": "generated images",
            "date": "2026-01-01",
            "limit": 0.02,
            "damaged": {
                "dark": row(["a", "b"], ["c"], "darker", {"brightness": 0.31, "noise": 0.1}),
                "flipped": row((), ["c"], "labels moved", {"labels": 0.1}),
                "missed": row(),
            },
            "harmless": {"mirrored": row()},
            "faint": {"faint": row()},
            "halves": {"draws": 2, "figures": 72, "above_0": 0, "largest_distance": 0.01, "chance_bound": 0.02},
        }
    )
    assert "**2 of 3 damaged data sets are refused, 1 of 1 harmless ones pass.**" in text
    assert "detect 1 of the damaged ones; only the reference detects the other 1." in text
    assert "| dark | refused | 2 | darker (31% or more) |" in text
    assert "| missed | passed |  |  |" in text
    assert drift_text({}) == ""


def test_the_saved_results_are_of_the_present_data_sets():
    results = read_rows(ROOT / DRIFT)
    assert [(group, name) for group in ("damaged", "harmless", "faint") for name in results[group]] == [
        (group, name) for group, name, _ in data_sets()
    ]


def test_the_whole_benchmark_runs_on_a_generated_archive(archive, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("benchmarks.drift.data_sets", lambda: [("damaged", "JPEG", DAMAGED["JPEG, quality 30"])])
    monkeypatch.setattr("benchmarks.drift.DRAWS", 1)
    results = measure_drift(archive, "generated")
    assert results["limit"] == 0.02
    assert "fine detail is gone" in results["damaged"]["JPEG"]["words"]
