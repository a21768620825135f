"""Pairs of images that show the same shot: candidates by exact nearest descriptors, confirmed by correlation."""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.structure import correlation, edge_histograms, fit_whitening, mirrored, unit

ROWS = 250  # compared at once with all others: 250 x 50,000 similarities are 50 MB
NEIGHBOURS = 20  # candidates per image at most; bounds the work where a whole data set looks alike
CONFIRMED = 2_000  # pairs compared closely at once


class Descriptors(NamedTuple):
    """What images show, and what their mirror images show: float32 (n, components) each, rows of length 1 or 0."""

    plain: np.ndarray
    mirror: np.ndarray


class Pairs(NamedTuple):
    """Rows of two sets of images that belong together: int64 (pairs,) each, and float32 (pairs,), 1 at most."""

    first: np.ndarray
    second: np.ndarray
    score: np.ndarray

    def ordered(self, threshold: float) -> "Pairs":
        """Those with at least this score, most alike first."""
        order = np.argsort(-self.score, kind="stable")
        return Pairs(*(part[order[self.score[order] >= threshold]] for part in self))


def describe(training: np.ndarray, test: np.ndarray) -> tuple[Descriptors, Descriptors]:
    """Descriptors of training and test images, whitened by what is usual among training images.

    Args:
        training, test: uint8 (n, 32, 32, 3), RGB.
    """
    histograms = edge_histograms(training)
    mean, projection = fit_whitening(histograms)

    def whitened(table: np.ndarray) -> Descriptors:
        seen = table.any(
            1, keepdims=True
        )  # a flat image shows nothing: it is like no other, not like every other flat one
        return Descriptors(*(unit((rows - mean) @ projection) * seen for rows in (table, mirrored(table))))

    return whitened(histograms), whitened(edge_histograms(test))


def nearest(
    queries: Descriptors, others: Descriptors, above: float, title: str, within: bool = False
) -> tuple[Pairs, Pairs]:
    """Each query's most similar other image, seen straight or in a mirror, and all candidates for twins.

    Exact: every query is compared with every other image, by matrix products of blocks.

    Args:
        above: cosine of descriptors that makes a pair a candidate.
        title: of the progress bar.
        within: both are the same images; then only pairs with first < second are looked at.

    Returns:
        best: a pair per query, `score` being the cosine of the descriptors.
        candidates: pairs whose cosine is higher than `above`, each query's `NEIGHBOURS` best at most.
    """
    best, candidates = [], []
    for start in tqdm(range(0, len(queries.plain), ROWS), title, unit="block", disable=None):
        rows, skipped = slice(start, start + ROWS), start if within else 0
        similarity = queries.plain[rows] @ others.plain[skipped:].T
        np.maximum(similarity, queries.mirror[rows] @ others.plain[skipped:].T, out=similarity)
        if within:
            similarity[np.tri(*similarity.shape, dtype=bool)] = -1
        for found, (row, column) in ((best, _highest(similarity)), (candidates, _close(similarity, above))):
            found.append(Pairs(row + start, column + skipped, similarity[row, column]))
    return tuple(Pairs(*map(np.concatenate, zip(*found, strict=True))) for found in (best, candidates))


def _highest(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(similarity)), similarity.argmax(1)


def _close(similarity: np.ndarray, above: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each value higher than `above`, the `NEIGHBOURS` highest of a row at most."""
    close = similarity > above
    crowded = np.flatnonzero(close.sum(1) > NEIGHBOURS)
    if len(crowded):
        kept = np.argpartition(similarity[crowded], -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        close[crowded] = False
        close[crowded[:, None], kept] = True
    return np.nonzero(close)


def confirmed(
    pairs: Pairs, images: tuple[np.ndarray, np.ndarray], descriptors: tuple[Descriptors, Descriptors], title: str
) -> Pairs:
    """The same pairs, each scored by the mean of its descriptors' cosine and its correlation pixel by pixel.

    Args:
        images: uint8 (n, 32, 32, 3), RGB, that `first` and `second` count.
        descriptors: of those images.
        title: of the progress bar.
    """
    scores = pairs.score.copy()
    for start in tqdm(range(0, len(scores), CONFIRMED), title, unit="block", disable=None):
        part = slice(start, start + CONFIRMED)
        rows = pairs.first[part], pairs.second[part]
        first, second = images[0][rows[0]], images[1][rows[1]]
        straight = (descriptors[0].plain[rows[0]] * descriptors[1].plain[rows[1]]).sum(1)
        turned = straight < scores[part] - 1e-4  # the cosine that made it a candidate was the mirror image's
        first[turned] = first[turned, :, ::-1]
        scores[part] = (scores[part] + correlation(first, second)) / 2
    return pairs._replace(score=scores)
