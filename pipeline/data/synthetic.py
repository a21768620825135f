"""Generated images of ten shapes, in CIFAR-10's archive format, for the demo and the tests."""

import io
import pickle
from pathlib import Path

import numpy as np

from pipeline.data.archive_writer import batch, write_tar
from pipeline.data.cifar10 import SIDE

CLASS_NAMES = ("disc", "ring", "square", "triangle", "cross", "bar", "stripes", "checks", "crescent", "star")
NOISE = 28.0  # standard deviation of the noise on each channel of each pixel, in steps of 0 to 255
TRAINING_BATCHES = 5


def generate(images: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw shapes with random position, size, rotation and colours; the classes are as equal in size as possible.

    Returns:
        images: uint8 (n, 32, 32, 3), RGB, 0 to 255.
        labels: uint8 (n,), an index of `CLASS_NAMES`.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(images) % len(CLASS_NAMES)).astype(np.uint8)
    inside = np.empty((images, SIDE, SIDE), bool)
    for label, name in enumerate(CLASS_NAMES):
        inside[labels == label] = _shape(name, int((labels == label).sum()), random)
    background = random.uniform(0, (255, 225, 195), (images, 1, 1, 3))  # more red than blue: swapped channels show
    colour = (background + random.uniform(70, 185, background.shape)) % 256  # never close to the background
    slope = 0.3 * random.uniform(-1, 1, (images, 1, 1, 1))  # of the light, from top to bottom
    light = 1 + slope * np.linspace(-1, 1, SIDE)[:, None, None]
    noise = random.normal(0, NOISE, (images, SIDE, SIDE, 3))
    pixels = np.where(inside[..., None], colour, background) * light + noise
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def _shape(name: str, count: int, random: np.random.Generator) -> np.ndarray:
    """bool (count, 32, 32): the pixels inside the shape, which is about 12 to 22 pixels wide."""
    columns, rows = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    centre = random.uniform(11, 20, (2, count, 1, 1))
    angle, size = random.uniform(0, 2 * np.pi, (count, 1, 1)), random.uniform(6, 11, (count, 1, 1))
    x, y = (columns - centre[0]) / size, (rows - centre[1]) / size  # (count, 32, 32), 1 at the shape's edge
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius, widest = np.hypot(u, v), np.maximum(abs(u), abs(v))
    shapes = {
        "disc": radius < 1,
        "ring": abs(radius - 0.8) < 0.2,
        "square": widest < 0.85,
        "triangle": np.maximum(-v, 0.87 * abs(u) + 0.5 * v) < 0.5,
        "cross": (np.minimum(abs(u), abs(v)) < 0.25) & (widest < 1),
        "bar": (abs(u) < 0.25) & (abs(v) < 1.1),
        "stripes": (radius < 1.1) & (np.sin(7 * u) > 0),
        "checks": (widest < 0.95) & (np.sin(6 * u) * np.sin(6 * v) > 0),
        "crescent": (radius < 1) & (np.hypot(u - 0.5, v) > 0.8),
        "star": radius < 0.65 + 0.4 * np.cos(5 * np.arctan2(v, u)),
    }
    return shapes[name]


def write_archive(path: Path, images_per_batch: int, seed: int) -> None:
    """Write five training batches and a test batch of generated images; equal arguments give equal bytes."""
    titles = {f"data_batch_{n}": f"training batch {n} of {TRAINING_BATCHES}" for n in range(1, TRAINING_BATCHES + 1)}
    titles["test_batch"] = "testing batch 1 of 1"
    members = {"batches.meta": meta(images_per_batch, CLASS_NAMES)}
    for number, (name, title) in enumerate(titles.items()):
        members[name] = batch(title, *generate(images_per_batch, [seed, number]))
    path.write_bytes(pack({name: pickle.dumps(content, protocol=4) for name, content in members.items()}))


def meta(images_per_batch: int, class_names: tuple[str, ...]) -> dict[bytes, object]:
    """Content of batches.meta."""
    names = [name.encode() for name in class_names]
    return {b"num_cases_per_batch": images_per_batch, b"label_names": names, b"num_vis": 3 * SIDE * SIDE}


def pack(members: dict[str, bytes]) -> bytes:
    """A tar.gz with these files in the folder of CIFAR-10's archive."""
    packed = io.BytesIO()
    write_tar(packed, "cifar-10-batches-py", members.items(), level=1)
    return packed.getvalue()
