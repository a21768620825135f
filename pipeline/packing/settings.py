"""The sections of params.yaml that fit a packed archive, so that its data is checked from the first run."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.common.errors import printable
from pipeline.common.files import Json
from pipeline.models.networks import NETWORKS
from pipeline.validation.tables import moments

BLOCK = 500  # images whose statistics are computed at once
TOLERANCE, IMBALANCE, IMAGE_SPREAD = 0.01, 0.05, 0.01  # the values for CIFAR-10
HELD_BACK = 10  # one of so many training images is for validation
STEPS = 20  # of an epoch at least: if there are few images, batches are smaller than the network's own
SMALLEST_BATCH = 8
LARGEST_ARCHIVE = 1_000_000_000  # bytes; download.maximum_bytes for CIFAR-10
LONGEST_NAME = 100  # characters of download.name


class Part(NamedTuple):
    """The training or the test images: the `rows`, integers (n,), of uint8 (..., side, side, 3); labels (n,)."""

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray


class Statistics(NamedTuple):
    """Of the pixels of images, scaled to 0..1; the first two are float64 (3,), the next two 0 to 255."""

    means: np.ndarray
    squares: np.ndarray
    lowest: int
    highest: int
    least_spread: float  # the standard deviation of the image where it is lowest

    @property
    def facts(self) -> np.ndarray:
        """What `validate` compares: means, standard deviations, and red minus blue, float64 (7,)."""
        spreads = np.sqrt(self.squares - self.means**2)
        return np.array([*self.means, *spreads, self.means[0] - self.means[2]])


def statistics_of(part: Part) -> Statistics:
    """The statistics of a part, computed in blocks."""
    found, lowest, highest = [], 255, 0
    for start in range(0, len(part.rows), BLOCK):
        block = part.images[part.rows[start : start + BLOCK]]
        found.append(moments(block))
        lowest, highest = min(lowest, int(block.min())), max(highest, int(block.max()))
    means, squares = (np.concatenate(each) for each in zip(*found, strict=True))
    spreads = np.sqrt(np.maximum(squares.mean(1) - means.mean(1) ** 2, 0))
    return Statistics(means.mean(0), squares.mean(0), lowest, highest, float(spreads.min()))


def fitting_settings(train: Part, test: Part, classes: int, model: str) -> Json:
    """By section of params.yaml, the keys that depend on the data; `model` is the network that will be trained."""
    held_back = max(classes, round(len(train.labels) / HELD_BACK))
    steps = (len(train.labels) - held_back) // NETWORKS[model].batch_size
    batch_size = None if steps >= STEPS else max(SMALLEST_BATCH, (len(train.labels) - held_back) // STEPS)
    return {
        "prepare": {"validation_images": held_back},
        "validate": _validate(train, test, classes),
        "train": {"batch_size": batch_size},
        "suspect_labels": {"batch_size": batch_size and max(SMALLEST_BATCH, batch_size // 2)},
    }


def _validate(train: Part, test: Part, classes: int) -> Json:
    parts = [statistics_of(train), statistics_of(test)]
    weights = np.array([len(train.labels), len(test.labels)]) / (len(train.labels) + len(test.labels))
    whole = parts[0]._replace(
        means=weights @ [each.means for each in parts], squares=weights @ [each.squares for each in parts]
    )
    facts = whole.facts.round(4)
    apart = max(float(np.abs(each.facts - facts).max()) for each in parts)
    shares = [np.bincount(part.labels, minlength=classes) * classes / len(part.labels) for part in (train, test)]
    imbalance = max(float(np.abs(share - 1).max()) for share in shares)
    return {
        "train_images": len(train.labels),
        "test_images": len(test.labels),
        "channel_means": facts[:3].tolist(),
        "channel_spreads": facts[3:6].tolist(),
        "tolerance": max(TOLERANCE, math.ceil(1000 * apart + 1) / 1000),
        "darkest": max(each.lowest for each in parts),
        "brightest": min(each.highest for each in parts),
        "class_imbalance": IMBALANCE if imbalance <= IMBALANCE else None,
        "minimum_image_spread": min(IMAGE_SPREAD, math.floor(1e4 * min(each.least_spread for each in parts)) / 1e4),
    }


def download_settings(archive: Path, sha256: str, size: int, name: str) -> Json:
    """Section `download` for an archive of `size` bytes on this machine; `name` is what tables call the data."""
    return {
        "name": printable(name)[:LONGEST_NAME].strip() or None,
        "sha256": sha256,
        "urls": [archive.resolve().as_uri()],
        "maximum_bytes": max(LARGEST_ARCHIVE, size),
    }
