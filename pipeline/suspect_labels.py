"""Suspect labels stage: training images whose label is probably wrong, ranked."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, removed_on_failure, write_csv, write_json
from pipeline.common.params import run_stage
from pipeline.data.image_grid import INK, captioned_grid, shortened
from pipeline.data.large_arrays import images_per_block
from pipeline.data.splits import Split, read_split, require_validated
from pipeline.evidence.confident_learning import find_suspects
from pipeline.models.keras_backend import filtered_stderr, start_keras
from pipeline.onnx.session import predict_probabilities, session_for
from pipeline.training.settings import TrainParams
from pipeline.training.temperature import calibrate

if TYPE_CHECKING:
    import onnxruntime

BLOCK = 1_536_000  # bytes of pixels, 500 images of 32 x 32; predicted at once
TILES_IN_A_ROW = 10


class SuspectLabelsParams(TrainParams):
    """Section `suspect_labels`: how the networks of the folds are trained, as in section `train`, and the folds."""

    folds: int = Field(ge=2, le=20)
    pictures: int = Field(gt=0, le=400)


class OutOfSample(NamedTuple):
    """Images, and their probabilities by a network that was not trained on them."""

    split: Split
    probabilities: np.ndarray  # float32 (n, classes), rows sum to 1
    source: str  # "validation" or "out-of-fold"


class Suspect(NamedTuple):
    """An image, uint8 (side, side, 3), RGB, whose label is probably wrong; label and suggested are class names."""

    image: np.ndarray
    archive_index: int
    label: str
    suggested: str
    probability_of_label: float
    probability_of_suggested: float
    source: str


COLUMNS = Suspect._fields[1:]  # of the table


def suspect_labels(
    params: SuspectLabelsParams,
    onnx_model: Path,
    train_split: Path,
    validation_split: Path,
    verdict: Path,
    table: Path,
    metrics: Path,
    sheet: Path,
) -> None:
    """Write the ranked suspects among the archive's training images, their figures, and a sheet of the first ones.

    The exported model predicts the validation images; networks of a cross-validation predict the others.
    `PipelineError` if the splits were not validated, the model was trained on other data, or there are too many folds.
    """
    require_validated(verdict, train=train_split, validation=validation_split)
    training, validation = read_split(train_split), read_split(validation_split)
    session = session_for(onnx_model, validation.class_names.tolist(), validation.archive_sha256)
    outputs = (table, metrics, sheet)
    with removed_on_failure(*outputs), atomic_outputs(*outputs) as drafts:
        groups = predict_out_of_sample(params, session, training, validation)
        suspects = rank_suspects(groups)
        figures = summarize(groups, suspects)
        rows = [[f"{each:.6f}" if isinstance(each, float) else each for each in suspect[1:]] for suspect in suspects]
        write_csv(drafts[0], [dict(zip(COLUMNS, row, strict=True)) for row in rows], COLUMNS)
        write_json(drafts[1], figures)
        draw_suspects(suspects[: params.pictures]).save(drafts[2], "PNG")
    print(
        f"suspect_labels: {figures['suspects']:,} of {figures['images']:,} labels are suspect "
        f"({figures['share']:.2%}); see {sheet}"
    )


def predict_out_of_sample(
    params: SuspectLabelsParams, session: "onnxruntime.InferenceSession", training: Split, validation: Split
) -> list[OutOfSample]:
    """Both splits, with probabilities of the ONNX model for validation and of a cross-validation for training."""
    batch_size = images_per_block(validation.images, BLOCK)
    return [
        OutOfSample(validation, predict_probabilities(session, validation.images, batch_size), "validation"),
        OutOfSample(training, predict_out_of_fold(params, training, validation), "out-of-fold"),
    ]


def predict_out_of_fold(params: SuspectLabelsParams, training: Split, validation: Split) -> np.ndarray:
    """Probabilities of each training image, by a network that was trained on the other folds: float32 (n, classes).

    As in the train stage, validation decides the epoch and the temperature.
    """
    start_keras()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns because each fold builds a new graph
    from pipeline.training.fit import fit

    batch_size = images_per_block(training.images, BLOCK)
    probabilities = np.empty((len(training.labels), len(training.class_names)), np.float32)
    for number, fold in enumerate(folds(training.labels, params.folds, params.seed), start=1):
        others = training._replace(images=training.images[~fold], labels=training.labels[~fold])
        print(f"suspect_labels: fold {number} of {params.folds}: training {params.model} on the others", flush=True)
        try:
            with filtered_stderr():
                network, _, _ = fit(params, others, validation)
                calibrate(network, validation)  # as the exported model is: one ranking needs comparable probabilities
                probabilities[fold] = network.predict(training.images[fold], batch_size=batch_size, verbose=0)
        except PipelineError as error:  # its message names settings of section `train`
            message = str(error).replace("train.", "suspect_labels.").replace("dvc repro", "make evidence")
            raise PipelineError(message) from None
    return probabilities


def folds(labels: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Disjoint stratified folds that cover all images: bool (n,) each, True for the images of the fold.

    A class with fewer images than `count` is in some of the folds only. `PipelineError` if every class has fewer.
    """
    from sklearn.model_selection import StratifiedKFold

    most = np.bincount(labels).max()
    if most < count:
        raise PipelineError(
            f"suspect_labels.folds is {count}, but no class has more than {most} training images: one class at least "
            "must be in each fold. Lower suspect_labels.folds in params.yaml, then run `make evidence`."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels))
    for _, chosen in parts:
        yield np.isin(np.arange(len(labels)), chosen)


def rank_suspects(groups: list[OutOfSample]) -> list[Suspect]:
    """All suspects, the least probable label first; each group has its own thresholds, because confidence differs."""
    suspects = []
    for split, probabilities, source in groups:
        names = split.class_names.tolist()
        for i, suggested in zip(*find_suspects(probabilities, split.labels), strict=True):
            image, index, label = split.images[i], int(split.archive_index[i]), split.labels[i]
            own, other = float(probabilities[i, label]), float(probabilities[i, suggested])
            suspects.append(Suspect(image, index, names[label], names[suggested], own, other, source))
    return sorted(suspects, key=lambda suspect: (suspect.probability_of_label, suspect.archive_index))


def summarize(groups: list[OutOfSample], suspects: list[Suspect]) -> dict[str, float]:
    """Images, suspects and their share; and by source images, suspects and the accuracy of the networks."""
    images = sum(len(group.split.labels) for group in groups)
    figures: dict[str, float] = {"images": images, "suspects": len(suspects), "share": len(suspects) / images}
    for split, probabilities, source in groups:
        name = source.replace("-", "_")
        figures[f"{name}_images"] = len(split.labels)
        figures[f"{name}_suspects"] = sum(suspect.source == source for suspect in suspects)
        figures[f"{name}_accuracy"] = float(np.mean(probabilities.argmax(1) == split.labels))
    return figures


def draw_suspects(suspects: list[Suspect]) -> Image.Image:
    """A sheet of the suspects, each with its label and the suggested class."""
    images = np.array([suspect.image for suspect in suspects], np.uint8)
    captions = [
        (f"label: {shortened(suspect.label)}", f"suggested: {shortened(suspect.suggested)}") for suspect in suspects
    ]
    return captioned_grid(images, captions, [INK] * len(suspects), TILES_IN_A_ROW)


if __name__ == "__main__":
    run_stage(suspect_labels, SuspectLabelsParams)
