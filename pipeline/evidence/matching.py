"""Pairs of similar images: an exact search over descriptors finds candidates, and a correlation rescores them."""

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.data.large_arrays import images_per_block
from pipeline.evidence.descriptors import correlation, edge_histograms, fit_whitening, mirrored, unit_rows

ROWS = 250  # images compared at once with all others, at most
SIMILARITIES = 12_500_000  # computed at once, at most: 250 x 50,000 need 50 MB
NEIGHBOURS = 20  # candidates per image at most; bounds the work if many images look alike
PAIRS = 6_144_000  # bytes of pixels of each set, 2,000 images of 32 x 32; rescored at once


class Descriptors(NamedTuple):
    """Of images and of their mirrored images: float32 (n, components) each, rows of length 1 or 0."""

    original: np.ndarray
    mirrored: np.ndarray


class Pairs(NamedTuple):
    """Pairs of images from two sets."""

    first: np.ndarray  # int64 (pairs,), positions in the first set
    second: np.ndarray
    score: np.ndarray  # float32 (pairs,), -1 to 1

    def ordered(self, threshold: float) -> "Pairs":
        """The pairs whose score is at least `threshold`, highest score first."""
        order = np.argsort(-self.score, kind="stable")
        return Pairs(*(column[order[self.score[order] >= threshold]] for column in self))


def describe(training: np.ndarray, test: np.ndarray) -> tuple[Descriptors, Descriptors]:
    """Descriptors of RGB images, uint8 (n, side, side, 3), with a whitening that is fitted on the training images."""
    histograms = edge_histograms(training)
    mean, projection = fit_whitening(histograms)

    def whiten(table: np.ndarray) -> Descriptors:
        has_edges = table.any(1, keepdims=True)  # a flat image gets zeros: it is not similar to other flat images
        return Descriptors(*(unit_rows((rows - mean) @ projection) * has_edges for rows in (table, mirrored(table))))

    return whiten(histograms), whiten(edge_histograms(test))


def find_similar(
    queries: Descriptors, others: Descriptors, above: float, title: str, within: bool = False
) -> tuple[Pairs, Pairs]:
    """The most similar other image of each query, as it is or mirrored, and all candidates for near duplicates.

    The search is exact: matrix products of blocks compare every query with every other image. A pair is a candidate if
    the cosine of its descriptors, its score, is higher than `above`; a query has at most `NEIGHBOURS` candidates.
    `within` means that queries and others are the same images; then only pairs with first < second are compared.
    """
    nearest: list[Pairs] = []
    candidates: list[Pairs] = []
    count = max(1, min(ROWS, SIMILARITIES // len(others.original)))
    for start in tqdm(range(0, len(queries.original), count), title, unit="block", disable=None):
        rows, skipped = slice(start, start + count), start if within else 0
        similarity = queries.original[rows] @ others.original[skipped:].T
        np.maximum(similarity, queries.mirrored[rows] @ others.original[skipped:].T, out=similarity)
        if within:
            similarity[np.tri(*similarity.shape, dtype=np.bool_)] = -1
        highest = np.arange(len(similarity)), similarity.argmax(1)
        for found, (row, column) in ((nearest, highest), (candidates, _close(similarity, above))):
            found.append(Pairs(row + start, column + skipped, similarity[row, column]))
    joined = [Pairs(*map(np.concatenate, zip(*blocks, strict=True))) for blocks in (nearest, candidates)]
    return joined[0], joined[1]


def _close(similarity: np.ndarray, above: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the values higher than `above`, at most the `NEIGHBOURS` highest of a row."""
    close = similarity > above
    crowded = np.flatnonzero(close.sum(1) > NEIGHBOURS)
    if len(crowded):
        kept = np.argpartition(similarity[crowded], -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
        close[crowded] = False
        close[crowded[:, None], kept] = True
    row, column = np.nonzero(close)
    return row, column


def rescore(pairs: Pairs, images: tuple[np.ndarray, np.ndarray], descriptors: tuple[Descriptors, Descriptors]) -> Pairs:
    """The same pairs; the score is now the mean of the descriptors' cosine and the correlation of the pixels.

    `images` are the sets of `first` and `second`: RGB, uint8 (n, side, side, 3).
    """
    scores, count = pairs.score.copy(), images_per_block(images[0], PAIRS)
    for start in tqdm(range(0, len(scores), count), "their candidates", unit="block", disable=None):
        block = slice(start, start + count)
        rows = pairs.first[block], pairs.second[block]
        first, second = images[0][rows[0]], images[1][rows[1]]
        cosine = (descriptors[0].original[rows[0]] * descriptors[1].original[rows[1]]).sum(1)
        is_mirrored = cosine < scores[block] - 1e-4  # the candidate's cosine was that of the mirrored image
        first[is_mirrored] = first[is_mirrored, :, ::-1]
        scores[block] = (scores[block] + correlation(first, second)) / 2
    return pairs._replace(score=scores)
