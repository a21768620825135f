import numpy as np
import pandas as pd
import pytest

from pipeline.validation.drift import UNDECIDED, compare_distribution, drift_table, summarize
from pipeline.validation.image_statistics import STATISTICS
from pipeline.validation.reference import QUANTILES

NAMES = ["cat", "dog", "frog"]


def table(count=3_000, seed=0, part="training"):
    """Images of three classes with different statistics."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    statistics = {name: random.normal(labels * (place % 3), 1) for place, name in enumerate(STATISTICS)}
    return pd.DataFrame({"part": part, "label": labels, **statistics})


def drifts(rows, reference):
    found = drift_table(rows, NAMES, reference).set_index("statistic")
    return found["drift"][found["drift"] > 0], found["words"]


def test_random_samples_of_the_same_images_show_no_drift_at_any_size():
    for reference_images in (30, 300, 3_000):
        reference = summarize(table(reference_images), NAMES)
        for seed, count in enumerate((30, 300, 3_000, 30_000), start=1):
            assert drifts(table(count, seed), reference)[0].empty


def test_if_a_tenth_of_the_images_changed_drift_is_a_tenth_minus_chance():
    rows = table(30_000)
    reference, changed = summarize(rows, NAMES), rows.copy()
    changed.loc[::10, "noise"] += 100
    found, words = drifts(changed, reference)
    assert found["noise"] == pytest.approx(0.1 - 2.6935 * np.sqrt(2 / 30_000), abs=0.005)
    assert words["noise"] == "noisier"


def test_equal_values_are_not_drift_and_more_of_them_are():
    reference = (np.repeat([0.0, 1.0], [60, 41]).tolist(), 10**9, STATISTICS["noise"])
    assert QUANTILES[59] < 0.6
    same, fewer = (np.repeat([0.0, 1.0], [zeros, 10**6 - zeros]) for zeros in (595_000, 300_000))
    assert compare_distribution(same, *reference).drift == pytest.approx(0, abs=0.01)
    change = compare_distribution(fewer, *reference)
    assert change.drift == pytest.approx(0.29, abs=0.01)
    assert change.words == "noisier"


def test_moved_labels_are_found_if_class_counts_stay_the_same():
    rows = table()
    reference, flipped = summarize(rows, NAMES), rows.copy()
    flipped.loc[::5, "label"] = np.roll(flipped.loc[::5, "label"], 1)
    found, words = drifts(flipped, reference)
    assert found["labels"] > 0.1
    assert words["labels"] == "labels moved"
    assert "class_shares" not in found


def test_swapped_classes_are_named():
    rows = table()
    reference, swapped = summarize(rows, NAMES), rows.copy()
    swapped["label"] = swapped["label"].replace({0: 1, 1: 0})
    found, words = drifts(swapped, reference)
    assert found["class_looks"] > 0.1
    assert words["class_looks"].startswith(("labels moved: cat", "labels moved: dog"))


def test_changed_images_are_not_reported_as_moved_labels():
    rows = table()
    reference, changed = summarize(rows, NAMES), rows.copy()
    changed[list(STATISTICS)] = np.random.default_rng(1).permutation(changed[list(STATISTICS)]) + 5
    found, words = drifts(changed, reference)
    assert found["labels"] > 0.5
    assert words["labels"] == UNDECIDED


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 0, 1], "more images of cat"), ([0, 1, 1], "more images of dog")],
)
def test_a_missing_class_and_a_larger_one_are_named(labels, expected):
    rows = table()
    reference = summarize(rows, NAMES)
    rows["label"] = rows["label"].map(dict(enumerate(labels)))
    found, words = drifts(rows, reference)
    assert found["class_shares"] > 0.25
    assert words["class_shares"] in (expected, "fewer images of frog")


def test_a_class_that_the_reference_does_not_have_is_found():
    reference = summarize(table(), NAMES)
    found = drift_table(table(), ["cat", "dog", "newt"], reference).set_index("statistic")
    assert found.at["class_shares", "drift"] > 0.25


def test_a_label_without_a_class_does_not_crash():
    reference, rows = summarize(table(), NAMES), table()
    rows.loc[0, "label"] = 77
    assert drifts(rows, reference)[0].empty


def test_equal_images_are_compared_too():
    rows = table()
    rows[list(STATISTICS)] = 0.5
    assert drifts(rows, summarize(rows, NAMES))[0].empty
