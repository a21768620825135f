"""Changed data sets: damaged ones that validation must refuse, harmless ones that it must pass, and faint changes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline.data.archive import Archive
from pipeline.data.luminance import luminance
from pipeline.evidence.corruptions import blur, brightness, noise, pixelate, reencoded, to_uint8

BLOCK = 1_000  # images; bounds the memory of intermediate arrays
Change = Callable[
    [np.ndarray, np.random.Generator], np.ndarray
]  # of images, uint8 (n, 32, 32, 3), or labels, uint8 (n,)
Make = Callable[[Archive, np.random.Generator], Archive]


class DataSet(NamedTuple):
    """How to make the data set from the archive, the seed of prepare, and whether params.yaml gets its image counts."""

    make: Make
    seed: int = 0
    counted: bool = False


def change_images(change: Change, share: float = 1.0) -> DataSet:
    """A data set with a random share of the training and test images changed."""

    def changed(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        images = images.copy()
        chosen = np.flatnonzero(random.random(len(images)) < share)
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            images[block] = change(images[block], random)
        return images

    def make(data: Archive, random: np.random.Generator) -> Archive:
        train, test = (changed(images, random) for images in (data.train_images, data.test_images))
        return data._replace(train_images=train, test_images=test)

    return DataSet(make)


def change_labels(change: Change) -> DataSet:
    """A data set with changed training and test labels."""

    def make(data: Archive, random: np.random.Generator) -> Archive:
        train, test = (change(labels.copy(), random) for labels in (data.train_labels, data.test_labels))
        return data._replace(train_labels=train, test_labels=test)

    return DataSet(make)


def select(choose: Callable[[int, np.random.Generator], np.ndarray]) -> Make:
    """A data set with the training and test images at the positions that `choose` returns for their number."""

    def make(data: Archive, random: np.random.Generator) -> Archive:
        train, test = choose(len(data.train_labels), random), choose(len(data.test_labels), random)
        return data._replace(
            train_images=data.train_images[train],
            train_labels=data.train_labels[train],
            test_images=data.test_images[test],
            test_labels=data.test_labels[test],
        )

    return make


def levels(change: Change) -> Change:
    """A change that computes with float32 pixels; its result is rounded and clipped."""
    return lambda images, random: to_uint8(change(images.astype(np.float32), random))


def jpeg(quality: int) -> Change:
    """JPEG with colour subsampling, as most programs write it."""
    return lambda images, _: np.stack([reencoded(image, quality) for image in images])


def greyscale(images: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Luminance in all three channels."""
    return to_uint8(luminance(images))[..., None].repeat(3, 3)


def rotate(images: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Images turned by 90 degrees."""
    return np.rot90(images, 1, (1, 2))


def frame(images: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """A black border of 2 pixels."""
    return np.pad(images[:, 2:-2, 2:-2], ((0, 0), (2, 2), (2, 2), (0, 0)))


def salt_and_pepper(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """2 % of the pixels black, 2 % white."""
    drawn = random.random((*images.shape[:3], 1))
    return np.where(drawn < 0.02, 0, np.where(drawn > 0.98, 255, images)).astype(np.uint8)


def flip_labels(labels: np.ndarray, classes: int, share: float, random: np.random.Generator) -> np.ndarray:
    """Labels with a share of them changed to another class, each other class equally likely: uint8 (n,).

    Args:
        labels: uint8 (n,), 0 to classes - 1.
    """
    is_flipped = np.isin(np.arange(len(labels)), random.permutation(len(labels))[: round(share * len(labels))])
    return ((labels + is_flipped * random.integers(1, classes, len(labels))) % classes).astype(np.uint8)


def flip(share: float) -> Change:
    """A share of the labels changed to another class."""
    return lambda labels, random: flip_labels(labels, labels.max() + 1, share, random)


def swap(one: int, other: int, share: float = 1.0) -> Change:
    """A random share of two classes labelled as the other one."""

    def swapped(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        exchanged = np.where(labels == one, other, np.where(labels == other, one, labels))
        return np.where(random.random(len(labels)) < share, exchanged, labels).astype(np.uint8)

    return swapped


def leak(data: Archive, random: np.random.Generator) -> Archive:
    """1 % of the test images replaced by training images."""
    test, count = data.test_images.copy(), len(data.test_images) // 100
    test[:count] = data.train_images[random.choice(len(data.train_images), count, replace=False)]
    return data._replace(test_images=test)


DAMAGED = {
    "brighter by 12 grey levels": change_images(levels(lambda images, random: brightness(images, 12, random))),
    "contrast lowered by 10 %": change_images(levels(lambda images, _: 0.9 * images + 12.8)),  # towards grey level 128
    "blurred slightly (sigma 0.4 pixels)": change_images(levels(lambda images, random: blur(images, 0.4, random))),
    "20 % blurred strongly (sigma 1 pixel)": change_images(levels(lambda images, random: blur(images, 1, random)), 0.2),
    "red raised by 8 grey levels": change_images(levels(lambda images, _: images + np.array([8, 0, 0], np.float32))),
    "15 % with blue raised by 24 grey levels": change_images(
        levels(lambda images, _: images + np.array([0, 0, 24], np.float32)), 0.15
    ),
    "20 % with channels in the order blue, green, red": change_images(lambda images, _: images[..., ::-1], 0.2),
    "10 % in greyscale": change_images(greyscale, 0.1),
    "noise of 4 grey levels": change_images(levels(lambda images, random: noise(images, 4, random))),
    "JPEG, quality 30": change_images(jpeg(30)),
    "JPEG, quality 60": change_images(jpeg(60)),
    "10 % pixelated to 16 x 16": change_images(levels(lambda images, random: pixelate(images, 16, random)), 0.1),
    "10 % with a black frame of 2 pixels": change_images(frame, 0.1),
    "20 % turned by 90 degrees": change_images(rotate, 0.2),
    "10 % with salt and pepper": change_images(salt_and_pepper, 0.1),
    "10 % of the labels flipped": change_labels(flip(0.1)),
    "labels rotated by one": change_labels(lambda labels, _: (labels + 1) % (labels.max() + 1)),
    "two classes swapped (3 and 5: cat and dog)": change_labels(swap(3, 5)),
    "a class missing: its images labelled as another": change_labels(
        lambda labels, _: np.where(labels == labels.max(), 1, labels).astype(np.uint8)
    ),
    "1 % of the test images replaced by training images": DataSet(leak),
}

HARMLESS = {
    "another split seed": DataSet(lambda data, _: data, seed=1),
    "images in another order": DataSet(select(lambda count, random: random.permutation(count))),
    "mirrored images": change_images(lambda images, _: images[:, :, ::-1]),
    "90 % of the images, with their number in params.yaml": DataSet(
        select(lambda count, random: np.sort(random.choice(count, count * 9 // 10, replace=False))), counted=True
    ),
    "brightness of each image moved by up to 2 grey levels": change_images(
        levels(lambda images, random: images + random.uniform(-2, 2, (len(images), 1, 1, 1)))
    ),
}

FAINT = {  # below the limit of params.yaml, or without a trace in the statistics
    "brighter by 2 grey levels": change_images(levels(lambda images, random: brightness(images, 2, random))),
    "5 % turned by 90 degrees": change_images(rotate, 0.05),
    "10 % upside down": change_images(lambda images, _: images[:, ::-1], 0.1),
    "3 % in greyscale": change_images(greyscale, 0.03),
    "JPEG, quality 75": change_images(jpeg(75)),
    "3 % of the labels flipped": change_labels(flip(0.03)),
    "30 % of class 3 labelled as 5 and as many back": change_labels(swap(3, 5, 0.3)),
}

GROUPS = {"damaged": DAMAGED, "harmless": HARMLESS, "faint": FAINT}  # the keys are those of drift.json


def data_sets() -> Iterator[tuple[str, str, DataSet]]:
    """Group, name and data set, for all of them."""
    for group, members in GROUPS.items():
        for name, data_set in members.items():
            yield group, name, data_set
