"""Classify image files with a bundle: python -m pipeline.predict BUNDLE IMAGE...

Needs only ONNX Runtime, NumPy and Pillow. How an image becomes the model's input is in pipeline/data/pictures.py.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np

from pipeline.common.errors import PipelineError, exit_on_error, printable
from pipeline.data.picture_pool import BATCH_SIZE, batches
from pipeline.data.pictures import files_in
from pipeline.onnx.isolated import IsolatedModel
from pipeline.registry.bundle_model import model_of_bundle


def predict(bundle: Path, paths: list[Path], as_json: bool) -> int:
    """Print the most probable classes of each file and of all files in folders; returns how many cannot be read."""
    with model_of_bundle(bundle) as (model, class_names, _):
        return classify(model, class_names, paths, as_json)


def classify(model: IsolatedModel, class_names: list[str], paths: list[Path], as_json: bool) -> int:
    """Print the most probable classes as `predict` does."""
    no_files = "the folder has no files, apart from hidden ones"
    files = [entry for path in paths for entry in list(files_in(path)) or [(path, no_files)]]
    failed = done = 0
    for batch in batches(files, model.side):
        images = [image for _, image in batch if isinstance(image, np.ndarray)]
        rows = iter(model.predict(np.stack(images)) if images else ())
        for file, image in batch:
            if isinstance(image, str):
                print_failure(file, image, as_json)
            else:
                print(result_line(file, next(rows), class_names, as_json))
        sys.stdout.flush()
        failed += len(batch) - len(images)
        done += len(batch)
        show_progress(done, len(files))
    return failed


def result_line(file: Path, probabilities: np.ndarray, class_names: list[str], as_json: bool) -> str:
    """The line that is printed for an image: the most probable classes, the highest probability first."""
    order = np.argsort(-probabilities, kind="stable")[:3]
    best = [(class_names[index], round(float(probabilities[index]), 6)) for index in order]
    if as_json:
        predictions = [{"class": name, "probability": probability} for name, probability in best]
        return json.dumps({"file": str(file), "predictions": predictions})
    return printable(f"{file}: " + "  ".join(f"{name} {probability:.1%}" for name, probability in best))


def print_failure(file: Path, reason: str, as_json: bool) -> None:
    """Print on stderr, and with --json also on stdout, that a file is skipped."""
    if as_json:
        print(json.dumps({"file": str(file), "error": reason}))
    erase = "\r\033[K" if sys.stderr.isatty() else ""  # removes the progress bar
    print(f"{erase}predict: {printable(f'{file} is skipped: {reason}')}", file=sys.stderr)


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
    if sys.stderr is None:  # closed: print() would use stdout
        sys.stderr = io.StringIO()
    if sys.stdout is None:
        raise PipelineError("standard output is closed, so no result can be printed. Redirect it to a file.")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it may not be UTF-8
    if failed := predict(arguments.bundle, arguments.images, arguments.json):
        raise PipelineError(f"{failed} of the files and folders could not be read; all others are classified.")


if __name__ == "__main__":
    with exit_on_error("predict"):
        main()
