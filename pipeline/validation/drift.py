"""Drift from a reference: for each statistic the smallest share of images that must have changed.

For an image statistic this is the Kolmogorov-Smirnov distance between two distributions: if it is 0.1, at least a
tenth of the images changed. The part that chance explains is subtracted, so one limit fits any number of images.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.validation.image_statistics import STATISTICS, Statistic
from pipeline.validation.reference import QUANTILES, PartName, PartStatistics

CHANCE = 1e-6  # probability that two random samples of the same images show drift
CHANCE_DEVIATIONS = NormalDist().inv_cdf(1 - CHANCE / 2)  # the same, in standard errors
RANK_DEVIATION = math.sqrt(1 / 12)  # standard deviation of ranks, which are uniform between 0 and 1
UNDECIDED = "classes differ too: because the images changed, or because labels moved"
STATEMENTS = {name: statistic.statement for name, statistic in STATISTICS.items()} | {
    "labels": "Images match their labels as well as in the reference: no labels moved.",
    "class_looks": "Each class differs from the others as in the reference: no two classes were swapped.",
    "class_shares": "Each class has the same share of the images as in the reference.",
}


class Change(NamedTuple):
    """What happened to one statistic, in words, with its value now and in the reference.

    drift: share of images that must have changed, beyond chance.
    """

    drift: float
    observed: float
    reference: float
    words: str


def summarize(images: pd.DataFrame, class_names: list[str]) -> dict[PartName, PartStatistics]:
    """The statistics of each part for a reference, from `tables.image_table`."""
    return {part: _summarize_part(rows, class_names) for part, rows in images.groupby("part")}


def _summarize_part(rows: pd.DataFrame, class_names: list[str]) -> PartStatistics:
    labels = _label_names(rows, class_names)
    shares = labels.value_counts(normalize=True).reindex(class_names, fill_value=0)
    ranks = _ranks(rows).groupby(labels).mean().reindex(class_names).fillna(0.5)
    # inverted_cdf takes values that occur, so equal values stay equal
    quantiles = {name: np.quantile(rows[name], QUANTILES, method="inverted_cdf").tolist() for name in STATISTICS}
    return PartStatistics(
        images=len(rows),
        class_shares=shares.round(6).to_dict(),
        class_ranks=ranks.round(6).to_dict("index"),
        quantiles=quantiles,
    )


def _label_names(rows: pd.DataFrame, class_names: list[str]) -> pd.Series:
    return rows["label"].map(dict(enumerate(class_names)))


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Rank of each image statistic within the part, 0 to 1: a change of all images alike does not change ranks."""
    return (rows[list(STATISTICS)].rank() - 0.5) / len(rows)


def drift_table(
    images: pd.DataFrame, class_names: list[str], reference: dict[PartName, PartStatistics]
) -> pd.DataFrame:
    """One row per statistic and part.

    Columns: statistic, part, drift (share of images), observed, reference (medians; for labels the agreement, for
    classes the share or rank of the class that differs most), words, summary (a sentence with all of them).

    Args:
        images: from `tables.image_table`.
        reference: from `summarize`, of the data to compare with.
    """
    rows = []
    for part, content in images.groupby("part", sort=False):
        for statistic, change in _compare_part(content, class_names, reference[part]).items():
            share = f", {change.drift:.1%} of images or more" if change.drift else ""
            summary = f"{part}: {change.words}{share} ({change.observed:.3g}, reference {change.reference:.3g})"
            rows.append({"statistic": statistic, "part": part, **change._asdict(), "summary": summary})
    return pd.DataFrame(rows)


def _compare_part(rows: pd.DataFrame, class_names: list[str], reference: PartStatistics) -> dict[str, Change]:
    changes = {
        name: compare_distribution(rows[name].to_numpy(), reference.quantiles[name], reference.images, statistic)
        for name, statistic in STATISTICS.items()
    }
    is_undecided = any(change.drift for change in changes.values())  # if only labels moved, no image statistic changed
    labels, ranks = _label_names(rows, class_names), _ranks(rows)
    for name, compare in (("labels", _compare_labels), ("class_looks", _compare_class_ranks)):
        change = compare(ranks, labels, reference)
        changes[name] = change._replace(words=UNDECIDED) if is_undecided and change.drift else change
    return changes | {"class_shares": _compare_class_shares(labels, reference)}


def compare_distribution(values: np.ndarray, quantiles: list[float], images: int, statistic: Statistic) -> Change:
    """Kolmogorov-Smirnov distance of the values (n,) from the reference, minus `chance_bound`.

    Args:
        quantiles: of the reference, at `QUANTILES`.
        images: number of images of the reference.
    """
    values, before, count = np.sort(values), np.array(quantiles), len(values)
    higher = (QUANTILES - np.searchsorted(values, before, "right") / count).max()
    lower = (np.searchsorted(values, before, "left") / count - QUANTILES).max()
    drift = max(higher, lower) - chance_bound(count, images)
    words = (statistic.higher if higher > lower else statistic.lower) if drift > 0 else "as before"
    return Change(max(drift, 0.0), float(np.median(values)), float(np.median(before)), words)


def chance_bound(images: int, reference_images: int) -> float:
    """The distance that two random samples of these sizes exceed with probability `CHANCE` or less.

    The bound of Dvoretzky, Kiefer and Wolfowitz for two samples: Wei and Dudley, Statistics and Probability
    Letters 82, 2012.
    """
    return math.sqrt(math.log(2 / CHANCE) / 2) * _standard_error(images, reference_images)


def _standard_error(images: "int | pd.Series", reference_images: "int | pd.Series") -> "float | pd.Series":
    """Standard error of a difference of two means, for a standard deviation of 1."""
    return np.sqrt(1 / images + 1 / reference_images)


def _compare_labels(ranks: pd.DataFrame, labels: pd.Series, reference: PartStatistics) -> Change:
    """Agreement of images with the mean ranks of their class: 1 as in the reference, 0 if labels are random."""
    directions = pd.DataFrame(reference.class_ranks).T - 0.5  # (classes, statistics)
    norm = sum(reference.class_shares[name] * (directions.loc[name] ** 2).sum() for name in directions.index)
    expected = directions.reindex(labels).fillna(0).to_numpy()
    agreements = ((ranks.to_numpy() - 0.5) * expected).sum(1) / max(norm, 1e-12)
    agreement = agreements.mean()
    chance = CHANCE_DEVIATIONS * agreements.std() * _standard_error(len(agreements), reference.images)
    # The reference's mean ranks contain chance too, which other images do not repeat: they agree by less than 1.
    repeated = 1 - directions.size * RANK_DEVIATION**2 / reference.images / max(norm, 1e-12)
    drift = max(max(repeated, 0.0) - agreement - chance, agreement - 1 - chance, 0.0) if norm else 0.0
    return Change(drift, agreement, 1.0, "labels moved" if drift else "labels as before")


def _compare_class_ranks(ranks: pd.DataFrame, labels: pd.Series, reference: PartStatistics) -> Change:
    """The class and the image statistic whose mean rank changed most."""
    now, before = ranks.groupby(labels).mean(), pd.DataFrame(reference.class_ranks).T
    now = now.reindex(before.index)[before.columns]
    counts = labels.value_counts().reindex(before.index)  # NaN, as the means, for a class without images
    reference_counts = pd.Series(reference.class_shares) * reference.images
    chance = CHANCE_DEVIATIONS * RANK_DEVIATION * _standard_error(counts, reference_counts[reference_counts > 0])
    changes = abs(now - before).sub(chance, axis=0).stack().dropna()
    if changes.empty:
        return Change(0.0, 0.0, 0.0, "no class to compare")
    name, statistic = changes.idxmax()
    drift = max(float(changes.max()), 0.0)
    words = f"labels moved: {name} has another {statistic}" if drift else "classes as before"
    return Change(drift, now.at[name, statistic], before.at[name, statistic], words)


def _compare_class_shares(labels: pd.Series, reference: PartStatistics) -> Change:
    """The class whose share changed most; a class that one of the data sets does not have has a share of 0 there."""
    now, before = labels.value_counts(normalize=True), pd.Series(reference.class_shares)
    classes = now.index.union(before.index)
    now, before = now.reindex(classes, fill_value=0.0), before.reindex(classes, fill_value=0.0)
    pooled = (now * len(labels) + before * reference.images) / (len(labels) + reference.images)
    deviations = np.sqrt(pooled * (1 - pooled))
    changes = abs(now - before) - CHANCE_DEVIATIONS * deviations * _standard_error(len(labels), reference.images)
    name, drift = changes.idxmax(), max(float(changes.max()), 0.0)
    more = "more" if now[name] > before[name] else "fewer"
    return Change(drift, now[name], before[name], f"{more} images of {name}" if drift else "shares as before")
