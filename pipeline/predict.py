"""Classify image files with a bundle: python -m pipeline.predict BUNDLE IMAGE...

Needs ONNX Runtime, NumPy and Pillow alone. An image of any size and mode becomes what the network
was trained on: turned upright by its EXIF orientation, transparency laid on white, the largest
square of its middle, each pixel the mean of the area that it stands for.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.bundle import read_bundle
from pipeline.cifar10 import SIDE
from pipeline.errors import PipelineError, innermost, one_message
from pipeline.onnx_model import open_session, probabilities

BATCH_SIZE = 64  # images
TOP = 3  # classes shown
MODEL, LABELS = "model.onnx", "labels.txt"


def predict(bundle: Path, paths: list[Path], as_json: bool) -> int:
    """Print the most probable classes of each image; how many files were no image that can be read.

    Args:
        paths: image files, and folders of which every file is taken.

    Raises:
        PipelineError: the bundle is not what its manifest says.
    """
    read_bundle(bundle, MODEL, LABELS)
    session, class_names = open_session(bundle / MODEL), (bundle / LABELS).read_text().splitlines()
    files, failed = [file for path in paths for file in files_of(path)], 0
    for start in range(0, len(files), BATCH_SIZE):
        images, reasons = read_images(files[start : start + BATCH_SIZE])
        scores = probabilities(session, np.stack([image for _, image in images]), BATCH_SIZE) if images else []
        for (file, _), row in zip(images, scores, strict=True):
            print(line(file, top(row, class_names), as_json))
        for file, reason in reasons:
            tell_failure(file, reason, as_json)
        failed += len(reasons)
        show_progress(min(start + BATCH_SIZE, len(files)), len(files))
    return failed


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files below a folder in order of their names; hidden ones are left out."""
    if not path.is_dir():
        return [path]
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    shown = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return shown or [path]  # which is told as no image


def read_images(files: list[Path]) -> tuple[list[tuple[Path, np.ndarray]], list[tuple[Path, str]]]:
    """The images that could be read, and the reasons why others could not."""
    images, reasons = [], []
    for file in files:
        try:
            images.append((file, read_image(file)))
        except Exception as error:  # a damaged file can raise anything
            reasons.append((file, innermost(error)))
    return images, reasons


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (32, 32, 3), RGB, 0 to 255.

    Raises:
        Exception: of Pillow, where it cannot decode the file; also for more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`, which a small file can claim to fill the memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            upright = opaque(ImageOps.exif_transpose(image))
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = (left, top, left + side, top + side)
    return np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BOX, square))


def opaque(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB: 16-bit grey scaled down, transparency laid on white."""
    if image.mode.startswith("I;16"):  # which Pillow's own conversion cuts off at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {image.mode}) of unknown range: convert it to 8 bits")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    return image.convert("RGB")


def top(scores: np.ndarray, class_names: list[str]) -> list[dict[str, Any]]:
    """The most probable classes, best first.

    Args:
        scores: float32 (classes,), sum 1.
    """
    order = np.argsort(-scores, kind="stable")[:TOP]
    return [{"class": class_names[place], "probability": round(float(scores[place]), 6)} for place in order]


def line(file: Path, predictions: list[dict[str, Any]], as_json: bool) -> str:
    """What is printed of an image."""
    if as_json:
        return json.dumps({"file": str(file), "predictions": predictions})
    shown = "  ".join(f"{found['class']} {found['probability']:.1%}" for found in predictions)
    return f"{file}: {shown}"


def tell_failure(file: Path, reason: str, as_json: bool) -> None:
    """Say on stderr, and with --json on stdout too, that a file was left out."""
    if as_json:
        print(json.dumps({"file": str(file), "error": reason}))
    bar = "\r\033[K" if sys.stderr.isatty() else ""  # an unfinished progress bar gives way
    print(f"{bar}predict: {file} is left out: {reason}", file=sys.stderr)


def show_progress(done: int, files: int) -> None:
    """A bar on stderr while many files are read, if a person looks on and results go elsewhere."""
    if files > BATCH_SIZE and sys.stderr.isatty() and not sys.stdout.isatty():
        filled = 30 * done // files
        end = "\n" if done == files else ""
        print(f"\rpredict: [{'#' * filled}{'.' * (30 - filled)}] {done:,}/{files:,}", end=end, file=sys.stderr)


def main() -> None:
    """`python -m pipeline.predict`: exit code 1 where a file was no image."""
    parser = argparse.ArgumentParser("python -m pipeline.predict", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a folder that `make export` wrote")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="an image file, or a folder of some")
    parser.add_argument("--json", action="store_true", help="a JSON object per line and file")
    asked = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    if failed := predict(asked.bundle, asked.images, asked.json):
        raise PipelineError(f"{failed} of the files could not be read as images; all others are done.")


if __name__ == "__main__":
    with one_message("predict"):
        main()
