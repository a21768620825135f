"""How far a data set has moved from a reference: one number per measure, the smallest share of images that explains it.

Of a measure's distributions this is the Kolmogorov-Smirnov distance: where it is 0.1, at least a tenth of the
images must have been changed. What chance alone explains is taken off first, so one limit fits any number of images.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.appearance import MEASURES

CHANCE = 1e-6  # of a difference that is taken for drift though both data sets are drawn alike
QUANTILES = np.linspace(0, 1, 101)
RANK_SPREAD = math.sqrt(1 / 12)  # standard deviation of ranks, which are even between 0 and 1
UNDECIDED = "classes differ otherwise: from the changed images, or labels moved too"
LABEL_MEASURES = {
    "labels": "Images look like their labels as much as in the reference: no labels moved.",
    "class_looks": "Each class differs from the others as in the reference: no two classes were swapped.",
    "class_shares": "Each class has the reference's share of the images.",
}


class Change(NamedTuple):
    """Share of images that must have changed, beyond chance; what was seen and expected; in words what happened."""

    drift: float
    observed: float
    reference: float
    words: str


def summarize(images: pd.DataFrame, class_names: list[str]) -> dict[str, Any]:
    """What a reference keeps of each part, from `features.image_table`."""
    return {part: _summary(rows, class_names) for part, rows in images.groupby("part")}


def _summary(rows: pd.DataFrame, class_names: list[str]) -> dict[str, Any]:
    names = _names(rows, class_names)
    shares = names.value_counts(normalize=True).reindex(class_names, fill_value=0)
    looks = _ranks(rows).groupby(names).mean().reindex(class_names).fillna(0.5)
    return {
        "images": len(rows),
        "class_shares": shares.round(6).to_dict(),
        "class_ranks": {name: looks.loc[name].round(6).to_dict() for name in class_names},
        "quantiles": {
            name: np.quantile(
                rows[name], QUANTILES, method="inverted_cdf"
            ).tolist()  # values that occur: ties stay ties
            for name in MEASURES
        },
    }


def _names(rows: pd.DataFrame, class_names: list[str]) -> pd.Series:
    return rows["label"].map(dict(enumerate(class_names)))


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Each measure as rank among the part's images, 0 to 1: what changes all images alike leaves it as it is."""
    return (rows[list(MEASURES)].rank() - 0.5) / len(rows)


def drift_table(images: pd.DataFrame, class_names: list[str], reference: dict[str, Any]) -> pd.DataFrame:
    """One row per measure and part.

    Columns: measure, part, drift (share of images), observed, reference (medians; for labels their
    agreement, for classes the share or rank of the class that differs most), seen (all of it in words).

    Args:
        images: of `features.image_table`.
        reference: what `summarize` gave for the data to compare with.
    """
    rows = []
    for part, content in images.groupby("part", sort=False):
        for measure, change in _changes(content, class_names, reference[part]):
            share = f", {change.drift:.1%} of images or more" if change.drift else ""
            seen = f"{part}: {change.words}{share} ({change.observed:.3g}, reference {change.reference:.3g})"
            rows.append({"measure": measure, "part": part, **change._asdict(), "seen": seen})
    return pd.DataFrame(rows)


def _changes(rows: pd.DataFrame, class_names: list[str], kept: dict[str, Any]) -> Iterator[tuple[str, Change]]:
    looks = {name: distance(np.sort(rows[name].to_numpy()), kept, name) for name in MEASURES}
    yield from looks.items()
    names, ranks = _names(rows, class_names), _ranks(rows)
    of_labels = {"labels": _labels_moved(ranks, names, kept), "class_looks": _looks_moved(ranks, names, kept)}
    if any(change.drift for change in looks.values()):  # labels that moved by themselves leave all images as they were
        for name, change in of_labels.items():
            of_labels[name] = change._replace(words=UNDECIDED if change.drift else change.words)
    yield from of_labels.items()
    yield "class_shares", _shares_moved(names, kept)


def distance(values: np.ndarray, kept: dict[str, Any], name: str) -> Change:
    """Kolmogorov-Smirnov distance of sorted `values` from the kept quantiles, less what is granted to chance."""
    quantiles, count = np.array(kept["quantiles"][name]), len(values)
    higher = (QUANTILES - np.searchsorted(values, quantiles, "right") / count).max()
    lower = (np.searchsorted(values, quantiles, "left") / count - QUANTILES).max()
    drift, measure = max(higher, lower) - granted(count, kept["images"]), MEASURES[name]
    words = (measure.higher if higher > lower else measure.lower) if drift > 0 else "as before"
    return Change(max(drift, 0.0), float(np.median(values)), float(np.median(quantiles)), words)


def granted(count: int, kept: int) -> float:
    """The distance that two samples of these sizes, drawn alike, exceed with probability `CHANCE` or less.

    The bound of Dvoretzky, Kiefer and Wolfowitz for two samples: Wei and Dudley, Statistics and Probability
    Letters 82, 2012.
    """
    return math.sqrt(math.log(2 / CHANCE) / 2) * _scale(count, kept)


def _scale(count: int, kept: int) -> float:
    """Standard error of a difference of means, for a spread of 1."""
    return math.sqrt(1 / count + 1 / kept)


def _sigmas() -> float:
    """How many standard errors chance reaches."""
    return NormalDist().inv_cdf(1 - CHANCE / 2)


def _labels_moved(ranks: pd.DataFrame, names: pd.Series, kept: dict[str, Any]) -> Change:
    """How much images lean where their class leaned: 1 as in the reference, 0 where labels say nothing."""
    leaning = pd.DataFrame(kept["class_ranks"]).T - 0.5  # (classes, measures)
    norm = sum(kept["class_shares"][name] * (leaning.loc[name] ** 2).sum() for name in leaning.index)
    expected = leaning.reindex(names).fillna(0).to_numpy()
    scores = ((ranks.to_numpy() - 0.5) * expected).sum(1) / max(norm, 1e-12)
    agreement, chance = scores.mean(), _sigmas() * scores.std() * _scale(len(scores), kept["images"])
    # Part of the kept leaning is chance too, which other images do not repeat: they agree by less than 1.
    repeated = 1 - leaning.size * RANK_SPREAD**2 / kept["images"] / max(norm, 1e-12)
    drift = max(max(repeated, 0.0) - agreement - chance, agreement - 1 - chance, 0.0) if norm else 0.0
    return Change(drift, agreement, 1.0, "labels moved" if drift else "labels as before")


def _looks_moved(ranks: pd.DataFrame, names: pd.Series, kept: dict[str, Any]) -> Change:
    """The class whose mean rank in any measure moved farthest."""
    seen, before = ranks.groupby(names).mean(), pd.DataFrame(kept["class_ranks"]).T
    seen = seen.reindex(before.index)[before.columns]
    counts = names.value_counts().reindex(before.index, fill_value=0)
    chance = pd.Series(
        {
            name: _sigmas() * RANK_SPREAD * _scale(count, kept["class_shares"][name] * kept["images"])
            for name, count in counts.items()
            if count and kept["class_shares"][name]
        }
    )
    moved = abs(seen - before).sub(chance, axis=0).stack().dropna()
    if moved.empty:
        return Change(0.0, 0.0, 0.0, "no class to compare")
    name, measure = moved.idxmax()
    drift = max(float(moved.max()), 0.0)
    words = f"labels moved: {name} has another {measure}" if drift else "classes as before"
    return Change(drift, seen.at[name, measure], before.at[name, measure], words)


def _shares_moved(names: pd.Series, kept: dict[str, Any]) -> Change:
    """The class whose share moved farthest; a class that one of the two does not know has a share of 0 there."""
    seen, before = names.value_counts(normalize=True), pd.Series(kept["class_shares"])
    classes = seen.index.union(before.index)
    seen, before = seen.reindex(classes, fill_value=0.0), before.reindex(classes, fill_value=0.0)
    together = (seen * len(names) + before * kept["images"]) / (len(names) + kept["images"])
    chance = _sigmas() * np.sqrt(together * (1 - together)) * _scale(len(names), kept["images"])
    moved = abs(seen - before) - chance
    name, drift = moved.idxmax(), max(float(moved.max()), 0.0)
    more = "more" if seen[name] > before[name] else "fewer"
    return Change(drift, seen[name], before[name], f"{more} images of {name}" if drift else "shares as before")
