"""Slices stage: accuracy on parts of the test split that the images themselves set apart."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.files import whole, write_csv
from pipeline.params import Params, run_stage
from pipeline.pictures import NO_VERSION
from pipeline.predictions import read_correct
from pipeline.scores import wilson
from pipeline.splits import read_split, require_validated
from pipeline.structure import luminance

BLOCK = 5_000  # images; bounds the memory of intermediate float arrays


class Slice(NamedTuple):
    """What images are parted by, and what its ends mean to the eye."""

    name: str
    title: str
    lowest: str
    highest: str


SLICES = (
    Slice("brightness", "brightness", "dark", "bright"),
    Slice("contrast", "contrast", "weak", "strong"),
    Slice("colourfulness", "colourfulness", "grey", "vivid"),
    Slice("similarity", "likeness to training", "far", "near"),
)


class SlicesParams(Params):
    parts: int = Field(ge=2, le=20)


def slices(
    params: SlicesParams, test: Path, report: Path, predictions: Path, nearest: Path, table: Path, picture: Path
) -> None:
    """Write accuracy by parts of brightness, contrast, colourfulness and similarity to the nearest training image."""
    require_validated(report, test)
    split = read_split(test)
    correct = read_correct(predictions, split)
    values = looks(split.images) | {"similarity": read_similarity(nearest, len(correct))}
    rows = [row for part in SLICES for row in measure_parts(part.name, values[part.name], correct, params.parts)]
    with whole(table, picture) as drafts:
        write_csv(drafts[0], rows)
        draw(rows, float(correct.mean()), drafts[1])
    ends = [choose(rows, key=lambda row: row["accuracy"]) for choose in (min, max)]
    worst, best = (f"{row['accuracy']:.4f} ({row['slice']} {row['low']:.4g} to {row['high']:.4g})" for row in ends)
    print(f"slices: accuracy {correct.mean():.4f}; from {worst} to {best}")


def looks(images: np.ndarray) -> dict[str, np.ndarray]:
    """brightness, contrast and colourfulness of each image: float64 (n,) each.

    Brightness is the mean luminance, 0 to 255, contrast its standard deviation, and colourfulness the measure of Hasler
    and Süsstrunk 2003 (https://doi.org/10.1117/12.477378): 0 is grey, 33 "moderately", 82 "highly" and 109 "extremely
    colourful" to the people they asked.

    Args:
        images: uint8 (n, 32, 32, 3), RGB.
    """
    blocks = [_looks(images[start : start + BLOCK]) for start in range(0, len(images), BLOCK)]
    columns = zip(*blocks, strict=True)
    return {part.name: np.concatenate(column) for part, column in zip(SLICES, columns, strict=False)}


def _looks(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    light = luminance(images).astype(np.float64)
    red, green, blue = np.moveaxis(images.astype(np.float64), -1, 0)  # (n, row, column) each
    opponents = np.stack([red - green, (red + green) / 2 - blue])  # (2, n, row, column)
    spreads, means = (np.hypot(*part) for part in (opponents.std((2, 3)), opponents.mean((2, 3))))
    return light.mean((1, 2)), light.std((1, 2)), spreads + 0.3 * means


def read_similarity(nearest: Path, images: int) -> np.ndarray:
    """float64 (images,), -1 to 1: how alike each test image is to its nearest training image.

    Raises:
        PipelineError: the table is damaged, or of another number of images.
    """
    remedy = "`dvc repro evidence/dvc.yaml:near_duplicates` makes it anew."
    try:
        with nearest.open(newline="") as file:
            rows = [(int(row["test_index"]), float(row["similarity"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"cannot read {nearest}, a table of nearest images: {error!r}. {remedy}") from None
    if [index for index, _ in rows] != list(range(images)):
        raise PipelineError(
            f"{nearest} must name each of the {images:,} test images once and in order, got {len(rows):,} rows. {remedy}"
        )
    similarity = np.array([similarity for _, similarity in rows])
    if not (np.abs(similarity) < 1.001).all():  # false for NaN; a rounded cosine may exceed 1 by a little
        wrong = similarity[~(np.abs(similarity) < 1.001)][0]
        raise PipelineError(f"{nearest} has the similarity {wrong}, expected -1 to 1. {remedy}")
    return similarity


def measure_parts(name: str, values: np.ndarray, correct: np.ndarray, parts: int) -> list[dict[str, Any]]:
    """One row per part of equally many images; where values tie, they stay together and a part may be missing.

    Args:
        values: float (n,), by which images are parted.
        correct: bool (n,).
    """
    edges = np.quantile(values, np.arange(1, parts) / parts)
    part_of = np.searchsorted(edges, values, side="left")  # 0 to parts - 1; a value on an edge belongs below it
    rows = []
    for part in np.unique(part_of):
        inside = part_of == part
        rows.append(
            {
                "slice": name,
                "part": int(part) + 1,
                "low": round(float(values[inside].min()), 4),
                "high": round(float(values[inside].max()), 4),
                "images": int(inside.sum()),
                **wilson("accuracy", correct[inside].sum(), inside.sum()),
            }
        )
    return rows


def draw(rows: list[dict[str, Any]], overall: float, path: Path) -> None:
    """A panel per slice: accuracy of its parts with 95 % intervals, and the accuracy of all as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.8, 10.5), layout="constrained")  # 1280 pixels wide; letters of 24 can be read at 400
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    panels = figure.subplots(2, 2, sharey=True)
    for axes, part in zip(panels.flat, SLICES, strict=True):
        mine = [row for row in rows if row["slice"] == part.name]
        places = [row["part"] for row in mine]
        accuracy, low, high = (
            np.array([row[key] for row in mine]) for key in ("accuracy", "accuracy_low", "accuracy_high")
        )
        axes.axhline(overall, color="#8c959f", linewidth=3, zorder=0)
        axes.errorbar(
            places,
            accuracy,
            (accuracy - low, high - accuracy),
            fmt="o",
            color="#0969da",
            markersize=11,
            capsize=8,
            linewidth=3,
        )
        axes.set_title(part.title, fontsize=28)
        axes.set_xticks([min(places), max(places)], [part.lowest, part.highest])
        axes.tick_params(labelsize=24)
        axes.margins(x=0.15)
    figure.supylabel("accuracy on test", fontsize=26)
    figure.supxlabel(f"parts of equally many images; grey line: all images, {overall:.3f}", fontsize=24)
    figure.savefig(path, format="png", dpi=100, metadata=NO_VERSION)  # no version in it: equal figures, equal bytes


if __name__ == "__main__":
    run_stage(slices, SlicesParams)
