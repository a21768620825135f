"""Generated images: ten classes of drawn shapes, packed as CIFAR-10 packs its archive.

For the demo and for tests, where the real images are too large or out of reach.
"""

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from pipeline.cifar10 import SIDE

CLASS_NAMES = ("disc", "ring", "square", "triangle", "cross", "bar", "stripes", "checks", "crescent", "star")
NOISE = 28.0  # grey levels; standard deviation of what is added to every sub-pixel
TRAINING_BATCHES = 5


def generate(images: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw `images` shapes of random place, size, rotation and colours, as many of each class as can be.

    Returns:
        images: uint8 (n, 32, 32, 3), RGB, 0 to 255.
        labels: uint8 (n,), an index of `CLASS_NAMES`.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(images) % len(CLASS_NAMES)).astype(np.uint8)
    inside = np.empty((images, SIDE, SIDE), bool)
    for label, name in enumerate(CLASS_NAMES):
        inside[labels == label] = _shape(name, int((labels == label).sum()), random)
    paper = random.uniform(0, (255, 225, 195), (images, 1, 1, 3))  # warm, so that swapped channels can be told
    ink = (paper + random.uniform(70, 185, paper.shape)) % 256  # never close to the paper's colour
    light = (
        1 + 0.3 * random.uniform(-1, 1, (images, 1, 1, 1)) * np.linspace(-1, 1, SIDE)[:, None, None]
    )  # top to bottom
    pixels = np.where(inside[..., None], ink, paper) * light + random.normal(0, NOISE, (images, SIDE, SIDE, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def _shape(name: str, count: int, random: np.random.Generator) -> np.ndarray:
    """bool (count, 32, 32): which pixels are inside of a shape of about 12 to 22 pixels."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    centre = random.uniform(11, 20, (2, count, 1, 1))
    turn, size = random.uniform(0, 2 * np.pi, (count, 1, 1)), random.uniform(6, 11, (count, 1, 1))
    x, y = (across - centre[0]) / size, (down - centre[1]) / size  # (count, 32, 32), 1 at the shape's edge
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
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
    """The content of batches.meta."""
    names = [name.encode() for name in class_names]
    return {b"num_cases_per_batch": images_per_batch, b"label_names": names, b"num_vis": 3 * SIDE * SIDE}


def batch(title: str, images: np.ndarray, labels: np.ndarray) -> dict[bytes, object]:
    """The content of a batch file: a row per image, its red, green and blue plane one after the other."""
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    return {b"batch_label": title.encode(), b"labels": labels.tolist(), b"data": rows}


def pack(members: dict[str, bytes]) -> bytes:
    """A tar.gz with these files in CIFAR-10's folder, without dates."""
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", 1, packed, mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()
