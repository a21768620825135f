import numpy as np
import pandas as pd
import pytest

from pipeline.appearance import MEASURES
from pipeline.drift import QUANTILES, UNDECIDED, distance, drift_table, summarize

NAMES = ["cat", "dog", "frog"]


def table(count=3_000, seed=0, part="training"):
    """Images of three classes that differ in what is measured."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    looks = {name: random.normal(labels * (place % 3), 1) for place, name in enumerate(MEASURES)}
    return pd.DataFrame({"part": part, "label": labels, **looks})


def drifts(rows, kept):
    found = drift_table(rows, NAMES, kept).set_index("measure")
    return found["drift"][found["drift"] > 0], found["words"]


def test_data_drawn_alike_has_not_drifted_whatever_its_size():
    for kept_count in (30, 300, 3_000):
        kept = summarize(table(kept_count), NAMES)
        for seed, count in enumerate((30, 300, 3_000, 30_000), start=1):
            assert drifts(table(count, seed), kept)[0].empty


def test_where_a_tenth_of_the_images_changed_the_drift_is_a_tenth_less_what_chance_explains():
    rows = table(30_000)
    kept, spoiled = summarize(rows, NAMES), rows.copy()
    spoiled.loc[::10, "noise"] += 100
    found, words = drifts(spoiled, kept)
    assert found["noise"] == pytest.approx(0.1 - 2.6935 * np.sqrt(2 / 30_000), abs=0.005)
    assert words["noise"] == "noisier"


def test_ties_are_no_drift_and_their_growth_is():
    kept = {"quantiles": {"noise": np.repeat([0.0, 1.0], [60, 41]).tolist()}, "images": 10**9}
    assert QUANTILES[59] < 0.6
    same, fewer = (np.repeat([0.0, 1.0], [zeros, 10**6 - zeros]) for zeros in (595_000, 300_000))
    assert distance(same, kept, "noise").drift == pytest.approx(0, abs=0.01)
    change = distance(fewer, kept, "noise")
    assert change.drift == pytest.approx(0.29, abs=0.01)
    assert change.words == "noisier"


def test_moved_labels_are_told_though_every_class_keeps_its_count():
    rows = table()
    kept, flipped = summarize(rows, NAMES), rows.copy()
    flipped.loc[::5, "label"] = np.roll(flipped.loc[::5, "label"], 1)
    found, words = drifts(flipped, kept)
    assert found["labels"] > 0.1
    assert words["labels"] == "labels moved"
    assert "class_shares" not in found


def test_swapped_classes_are_told_by_name():
    rows = table()
    kept, swapped = summarize(rows, NAMES), rows.copy()
    swapped["label"] = swapped["label"].replace({0: 1, 1: 0})
    found, words = drifts(swapped, kept)
    assert found["class_looks"] > 0.1
    assert words["class_looks"].startswith(("labels moved: cat", "labels moved: dog"))


def test_changed_images_are_not_told_as_moved_labels():
    rows = table()
    kept, spoiled = summarize(rows, NAMES), rows.copy()
    spoiled[list(MEASURES)] = np.random.default_rng(1).permutation(spoiled[list(MEASURES)]) + 5
    found, words = drifts(spoiled, kept)
    assert found["labels"] > 0.5
    assert words["labels"] == UNDECIDED


@pytest.mark.parametrize(
    ("labels", "seen"),
    [([0, 0, 1], "more images of cat"), ([0, 1, 1], "more images of dog")],
)
def test_a_class_that_is_missing_and_one_that_grew_are_told(labels, seen):
    rows = table()
    kept = summarize(rows, NAMES)
    rows["label"] = rows["label"].map(dict(enumerate(labels)))
    found, words = drifts(rows, kept)
    assert found["class_shares"] > 0.25
    assert words["class_shares"] in (seen, "fewer images of frog")


def test_a_class_that_the_reference_does_not_know_is_told():
    kept = summarize(table(), NAMES)
    found = drift_table(table(), ["cat", "dog", "newt"], kept).set_index("measure")
    assert found.at["class_shares", "drift"] > 0.25


def test_a_label_without_a_class_is_no_crash():
    kept, rows = summarize(table(), NAMES), table()
    rows.loc[0, "label"] = 77
    assert drifts(rows, kept)[0].empty


def test_images_all_alike_are_compared_too():
    rows = table()
    rows[list(MEASURES)] = 0.5
    assert drifts(rows, summarize(rows, NAMES))[0].empty
