"""Folders of generated pictures, as a user has them: JPEG and PNG files of mixed sizes in class folders."""

import numpy as np
from PIL import Image

from pipeline.data.synthetic import CLASS_NAMES, generate

SIZES = ((48, 48), (96, 60), (70, 130), (33, 40))


def shape_pictures(count, seed, sides=SIZES):
    """Pictures of `CLASS_NAMES` in turn, of mixed sizes, with their labels."""
    images, labels = generate(count, seed)
    return [
        (Image.fromarray(image).resize(sides[number % len(sides)]), int(label))
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def write_class(folder, pictures):
    """Write the pictures to a class folder, as PNG and JPEG in turn."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        if number % 2:
            picture.save(folder / f"{number:04}.jpg", quality=95)
        else:
            picture.save(folder / f"{number:04}.png")


def write_folder(folder, counts, seed=0):
    """Write class folders of shapes: as many pictures of each class as `counts` says by name; no picture twice."""
    for number, (name, count) in enumerate(counts.items()):
        shape = number % len(CLASS_NAMES)
        pictures = shape_pictures(count * len(CLASS_NAMES), seed + number // len(CLASS_NAMES))
        write_class(folder / name, [picture for picture, label in pictures if label == shape])
    return folder


def noise_picture(seed, side=20):
    """A picture of random pixels; equal seeds give equal ones."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def write_noise(folder, counts):
    """Write class folders of random pixels, small and quick: as many pictures as `counts` says by class name."""
    seed = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise_picture(seed).save(folder / name / f"{number:04}.png")
            seed += 1
    return folder
