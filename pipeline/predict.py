"""Classify image files with a bundle: python -m pipeline.predict BUNDLE IMAGE...

Needs only ONNX Runtime, NumPy and Pillow. Images of any size and mode are rotated by their EXIF orientation, put on
white if transparent, cropped to the largest square in the middle and resized to the input by averaging.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.common.errors import PipelineError, exit_on_error, root_cause
from pipeline.data.cifar10 import SIDE
from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.registry.bundle import LABELS, ONNX_FILE, read_bundle

BATCH_SIZE = 64  # images


def predict(bundle: Path, paths: list[Path], as_json: bool) -> int:
    """Print the most probable classes of each file and of all files in folders; returns how many cannot be read."""
    read_bundle(bundle, ONNX_FILE, LABELS)
    session, class_names = open_session(bundle / ONNX_FILE), (bundle / LABELS).read_text().splitlines()
    files, failed = [file for path in paths for file in files_in(path)], 0
    for start in range(0, len(files), BATCH_SIZE):
        batch = [(file, image_or_reason(file)) for file in files[start : start + BATCH_SIZE]]
        images = [image for _, image in batch if isinstance(image, np.ndarray)]
        rows = iter(predict_probabilities(session, np.stack(images), BATCH_SIZE) if images else ())
        for file, image in batch:
            if isinstance(image, str):
                print_failure(file, image, as_json)
            else:
                print(result_line(file, next(rows), class_names, as_json))
        failed += len(batch) - len(images)
        show_progress(min(start + BATCH_SIZE, len(files)), len(files))
    return failed


def files_in(path: Path) -> list[Path]:
    """The file itself, or all files in a folder and its subfolders, sorted by name, without hidden ones."""
    if not path.is_dir():
        return [path]
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    visible = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return visible or [path]  # an empty folder is reported as a file that cannot be read


def image_or_reason(file: Path) -> np.ndarray | str:
    """The image as from `read_image`, or the reason why the file cannot be read."""
    try:
        return read_image(file)
    except Exception as error:  # a damaged file can raise anything
        return root_cause(error)


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 (32, 32, 3), RGB, 0 to 255; raises any exception of Pillow."""
    with warnings.catch_warnings():  # above `Image.MAX_IMAGE_PIXELS`: a small file can claim a size that fills memory
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            upright = to_rgb(ImageOps.exif_transpose(image))
    side = min(upright.size)
    left, top = (upright.width - side) // 2, (upright.height - side) // 2
    square = (left, top, left + side, top + side)
    return np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BOX, square))


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB: 16-bit grayscale is scaled down, transparency becomes white."""
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {image.mode}) of unknown range: convert it to 8 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def result_line(file: Path, probabilities: np.ndarray, class_names: list[str], as_json: bool) -> str:
    """The line that is printed for an image: the most probable classes, the highest probability first."""
    order = np.argsort(-probabilities, kind="stable")[:3]
    best = [(class_names[index], round(float(probabilities[index]), 6)) for index in order]
    if as_json:
        predictions = [{"class": name, "probability": probability} for name, probability in best]
        return json.dumps({"file": str(file), "predictions": predictions})
    return f"{file}: " + "  ".join(f"{name} {probability:.1%}" for name, probability in best)


def print_failure(file: Path, reason: str, as_json: bool) -> None:
    """Print on stderr, and with --json also on stdout, that a file is skipped."""
    if as_json:
        print(json.dumps({"file": str(file), "error": reason}))
    erase = "\r\033[K" if sys.stderr.isatty() else ""  # removes the progress bar
    print(f"{erase}predict: {file} is skipped: {reason}", file=sys.stderr)


def show_progress(done: int, files: int) -> None:
    """A progress bar on stderr, if there are many files and only stderr is a terminal."""
    if files > BATCH_SIZE and sys.stderr.isatty() and not sys.stdout.isatty():
        bar, end = "#" * (30 * done // files), "\n" if done == files else ""
        print(f"\rpredict: [{bar:.<30}] {done:,}/{files:,}", end=end, file=sys.stderr)


def main() -> None:
    """`python -m pipeline.predict`; the exit code is 1 if a file cannot be read as an image."""
    parser = argparse.ArgumentParser("python -m pipeline.predict", description="Classify image files with a bundle.")
    parser.add_argument("bundle", type=Path, help="a folder that `make export` wrote")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="an image file, or a folder of images")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file name may not be valid text
    if failed := predict(arguments.bundle, arguments.images, arguments.json):
        raise PipelineError(f"{failed} of the files could not be read as images; all others are classified.")


if __name__ == "__main__":
    with exit_on_error("predict"):
        main()
