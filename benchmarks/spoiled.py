"""Data sets that validation must refuse, some that it must pass, and some that show where it ends."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.cifar10 import Archive

BLOCK = 1_000  # images; bounds the memory of intermediate arrays
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # of uint8 (n, 32, 32, 3), or of labels (n,)
Spoil = Callable[[Archive, np.random.Generator], Archive]


class DataSet(NamedTuple):
    """How it is made of the archive, and what prepare's seed and validation's counts are then."""

    make: Spoil
    seed: int = 0
    counted: bool = False  # whether params.yaml is told the new number of images


def images(change: Change, share: float = 1.0) -> DataSet:
    """A change of a random share of the images of both parts."""

    def changed(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        pixels = pixels.copy()
        chosen = np.flatnonzero(random.random(len(pixels)) < share)
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            pixels[block] = change(pixels[block], random)
        return pixels

    def make(data: Archive, random: np.random.Generator) -> Archive:
        train, test = (changed(pixels, random) for pixels in (data.train_images, data.test_images))
        return data._replace(train_images=train, test_images=test)

    return DataSet(make)


def labels(change: Change) -> DataSet:
    """A change of the labels of both parts."""

    def make(data: Archive, random: np.random.Generator) -> Archive:
        train, test = (change(each.copy(), random) for each in (data.train_labels, data.test_labels))
        return data._replace(train_labels=train, test_labels=test)

    return DataSet(make)


def levels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """A change of grey levels as numbers, rounded and cut to 0..255."""
    return lambda pixels, random: np.clip(np.rint(change(pixels.astype(np.float32), random)), 0, 255).astype(np.uint8)


def blur(sigma: float) -> Change:
    return levels(lambda pixels, _: gaussian_filter(pixels, (0, sigma, sigma, 0)))


def jpeg(quality: int) -> Change:
    def encode(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return np.stack([np.asarray(Image.open(io.BytesIO(_packed(image, quality)))) for image in pixels])

    return encode


def _packed(image: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def grey(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(pixels @ weights).astype(np.uint8)[..., None].repeat(3, 3)


def pixelate(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return pixels[:, ::2, ::2].repeat(2, 1).repeat(2, 2)


def frame(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.pad(pixels[:, 2:-2, 2:-2], ((0, 0), (2, 2), (2, 2), (0, 0)))


def salt_and_pepper(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    thrown = random.random((*pixels.shape[:3], 1))
    return np.where(thrown < 0.02, 0, np.where(thrown > 0.98, 255, pixels)).astype(np.uint8)


def flip(share: float) -> Change:
    def flipped(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        chosen = random.random(len(labels)) < share
        classes = labels.max() + 1
        labels[chosen] = (labels[chosen] + random.integers(1, classes, chosen.sum())) % classes
        return labels

    return flipped


def swap(one: int, other: int) -> Change:
    return lambda labels, _: np.where(labels == one, other, np.where(labels == other, one, labels)).astype(np.uint8)


def leak(data: Archive, random: np.random.Generator) -> Archive:
    test = data.test_images.copy()
    test[: len(test) // 100] = data.train_images[random.choice(len(data.train_images), len(test) // 100, replace=False)]
    return data._replace(test_images=test)


def drawn(choose: Callable[[int, np.random.Generator], np.ndarray]) -> Spoil:
    """Other images of both parts, or in another order."""

    def make(data: Archive, random: np.random.Generator) -> Archive:
        train, test = choose(len(data.train_labels), random), choose(len(data.test_labels), random)
        return data._replace(
            train_images=data.train_images[train],
            train_labels=data.train_labels[train],
            test_images=data.test_images[test],
            test_labels=data.test_labels[test],
        )

    return make


SPOILED = {
    "brighter by 12 grey levels": images(levels(lambda pixels, _: pixels + 12)),
    "contrast lowered by 10 %": images(levels(lambda pixels, _: 0.9 * pixels + 12.8)),
    "blurred slightly (sigma 0.4 pixels)": images(blur(0.4)),
    "20 % blurred strongly (sigma 1 pixel)": images(blur(1.0), 0.2),
    "red raised by 8 grey levels": images(levels(lambda pixels, _: pixels + np.array([8, 0, 0], np.float32))),
    "15 % with blue raised by 24 grey levels": images(
        levels(lambda pixels, _: pixels + np.array([0, 0, 24], np.float32)), 0.15
    ),
    "20 % with channels in the order blue, green, red": images(lambda pixels, _: pixels[..., ::-1], 0.2),
    "10 % in greyscale": images(grey, 0.1),
    "noise of 4 grey levels": images(levels(lambda pixels, random: pixels + random.normal(0, 4, pixels.shape))),
    "JPEG, quality 30": images(jpeg(30)),
    "JPEG, quality 60": images(jpeg(60)),
    "10 % pixelated to 16 x 16": images(pixelate, 0.1),
    "10 % with a black frame of 2 pixels": images(frame, 0.1),
    "20 % turned by 90 degrees": images(lambda pixels, _: np.rot90(pixels, 1, (1, 2)), 0.2),
    "10 % with salt and pepper": images(salt_and_pepper, 0.1),
    "10 % of the labels flipped": labels(flip(0.1)),
    "labels rotated by one": labels(lambda labels, _: (labels + 1) % (labels.max() + 1)),
    "two classes swapped (3 and 5: cat and dog)": labels(swap(3, 5)),
    "a class missing: its images labelled as another": labels(
        lambda labels, _: np.where(labels == labels.max(), 1, labels).astype(np.uint8)
    ),
    "1 % of the test images replaced by training images": DataSet(leak),
}

HARMLESS = {
    "another split seed": DataSet(lambda data, _: data, seed=1),
    "images in another order": DataSet(drawn(lambda count, random: random.permutation(count))),
    "mirrored images": images(lambda pixels, _: pixels[:, :, ::-1]),
    "90 % of the images, with their number in params.yaml": DataSet(
        drawn(lambda count, random: np.sort(random.choice(count, count * 9 // 10, replace=False))), counted=True
    ),
    "brightness of each image moved by up to 2 grey levels": images(
        levels(lambda pixels, random: pixels + random.uniform(-2, 2, (len(pixels), 1, 1, 1)))
    ),
}

FAINT = {  # less than the limit in params.yaml lets be seen, or what leaves no trace
    "brighter by 2 grey levels": images(levels(lambda pixels, _: pixels + 2)),
    "5 % turned by 90 degrees": images(lambda pixels, _: np.rot90(pixels, 1, (1, 2)), 0.05),
    "10 % upside down": images(lambda pixels, _: pixels[:, ::-1], 0.1),
    "3 % in greyscale": images(grey, 0.03),
    "JPEG, quality 75": images(jpeg(75)),
    "3 % of the labels flipped": labels(flip(0.03)),
    "30 % of class 3 labelled as 5 and as many back": labels(
        lambda labels, random: np.where(random.random(len(labels)) < 0.3, swap(3, 5)(labels, random), labels).astype(
            np.uint8
        )
    ),
}


def data_sets() -> Iterator[tuple[str, str, DataSet]]:
    """Group, name and data set of all."""
    for group, members in {"spoiled": SPOILED, "harmless": HARMLESS, "faint": FAINT}.items():
        for name, member in members.items():
            yield group, name, member
