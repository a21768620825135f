"""Suspect labels stage: which training images are likely to have a wrong label, the most suspect first."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.calibration import calibrate
from pipeline.confident import suspects
from pipeline.errors import PipelineError
from pipeline.files import removed_on_failure, whole, write_csv, write_json
from pipeline.keras_start import start_keras
from pipeline.onnx_model import probabilities, session_for
from pipeline.params import run_stage
from pipeline.pictures import INK, captioned_grid
from pipeline.splits import Split, read_split, require_validated
from pipeline.train import TrainParams

BATCH_SIZE = 500  # images scored at once
TILES_IN_A_ROW = 10
COLUMNS = ["archive_index", "label", "suggested", "probability_of_label", "probability_of_suggested", "source"]


class SuspectLabelsParams(TrainParams):
    """How the folds' networks are trained, with the keys of section `train`, and how many folds there are."""

    folds: int = Field(ge=2, le=20)
    pictures: int = Field(gt=0, le=400)


class Judged(NamedTuple):
    """Images with what a network that has not learnt from them says: float32 (n, classes), rows sum to 1."""

    split: Split
    scores: np.ndarray
    source: str


def suspect_labels(
    params: SuspectLabelsParams,
    model: Path,
    train: Path,
    validation: Path,
    report: Path,
    table: Path,
    metrics: Path,
    picture: Path,
) -> None:
    """Write the ranked list of suspects among the archive's training images, its figures, and a sheet of the first.

    Validation images are judged by the model itself, the others by networks trained on the other folds.

    Raises:
        PipelineError: the splits were not validated, the model was made for other data, or a fold
            is too small for its network.
    """
    require_validated(report, train, validation)
    learnt, held_back = read_split(train), read_split(validation)
    session = session_for(model, held_back.class_names.tolist(), held_back.archive_sha256)
    outputs = (table, metrics, picture)
    with removed_on_failure(*outputs), whole(*outputs) as drafts:
        groups = judge(params, session, learnt, held_back)
        found = ranked(groups)
        figures = summarize(groups, found)
        write_csv(drafts[0], [as_row(suspect, held_back.class_names) for suspect in found], COLUMNS)
        write_json(drafts[1], figures)
        draw(found[: params.pictures], held_back.class_names, drafts[2])
    print(
        f"suspect_labels: {figures['suspects']:,} of {figures['images']:,} labels are suspect ({figures['share']:.2%}); "
        f"see {picture}"
    )


def judge(params: SuspectLabelsParams, session: Any, learnt: Split, held_back: Split) -> list[Judged]:
    """Both splits, the validation split judged by the model of `session`, the training split out of fold."""
    return [
        Judged(held_back, probabilities(session, held_back.images, BATCH_SIZE), "validation"),
        Judged(learnt, out_of_fold(params, learnt, held_back), "out-of-fold"),
    ]


def out_of_fold(params: SuspectLabelsParams, learnt: Split, held_back: Split) -> np.ndarray:
    """What networks that have not learnt from them say of the training images.

    Each fold's network learns from the other folds; its epoch is chosen on `held_back`, as train does.

    Returns:
        float32 (n, classes), rows sum to 1, in the order of `learnt`.
    """
    start_keras()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each fold has a graph of its own
    from pipeline.fit import fit

    scores = np.empty((len(learnt.labels), len(learnt.class_names)), np.float32)
    for number, fold in enumerate(folds(learnt.labels, params.folds, params.seed), start=1):
        rest = learnt._replace(images=learnt.images[~fold], labels=learnt.labels[~fold])
        print(f"suspect_labels: fold {number} of {params.folds}, {params.model} learns from the others", flush=True)
        try:
            network, _, _ = fit(params, rest, held_back)
        except PipelineError as error:  # which names the settings of section train
            raise PipelineError(
                str(error).replace("train.", "suspect_labels.").replace("dvc repro", "make evidence")
            ) from None
        calibrate(network, held_back)  # as the model is: one order of suspects needs probabilities of one meaning
        scores[fold] = network.predict(learnt.images[fold], batch_size=BATCH_SIZE, verbose=0)
    return scores


def folds(labels: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """For each fold bool (n,), True for its images: disjoint, all images together, each class in proportion.

    Raises:
        PipelineError: a class has fewer images than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    fewest = np.bincount(labels)[np.unique(labels)].min()
    if fewest < count:
        raise PipelineError(
            f"suspect_labels.folds is {count}, but a class has {fewest} training images: each fold needs one. "
            "Lower suspect_labels.folds in params.yaml, then run `make evidence`."
        )
    for _, chosen in StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels):
        yield np.isin(np.arange(len(labels)), chosen)


def ranked(groups: list[Judged]) -> list[dict[str, Any]]:
    """All suspects, the most suspect first, each with its image and what the table says of it.

    Each group has thresholds of its own, since its networks are differently sure.
    """
    found = []
    for split, scores, source in groups:
        for place, suggested in zip(*suspects(scores, split.labels), strict=True):
            label = split.labels[place]
            found.append(
                {
                    "image": split.images[place],
                    "archive_index": int(split.archive_index[place]),
                    "label": label,
                    "suggested": suggested,
                    "probability_of_label": scores[place, label],
                    "probability_of_suggested": scores[place, suggested],
                    "source": source,
                }
            )
    return sorted(found, key=lambda suspect: (suspect["probability_of_label"], suspect["archive_index"]))


def as_row(suspect: dict[str, Any], class_names: np.ndarray) -> dict[str, Any]:
    """A row of the table: classes by name, six decimals."""
    names = {name: str(class_names[suspect[name]]) for name in ("label", "suggested")}
    numbers = {name: f"{suspect[name]:.6f}" for name in ("probability_of_label", "probability_of_suggested")}
    return {name: (suspect | names | numbers)[name] for name in COLUMNS}


def summarize(groups: list[Judged], found: list[dict[str, Any]]) -> dict[str, float]:
    """Images, suspects and their share, over all and by source; and how often the judging networks agree with labels."""
    figures: dict[str, float] = {}
    images = sum(len(group.split.labels) for group in groups)
    figures |= {"images": images, "suspects": len(found), "share": len(found) / images}
    for split, scores, source in groups:
        name = source.replace("-", "_")
        figures[f"{name}_images"] = len(split.labels)
        figures[f"{name}_suspects"] = sum(suspect["source"] == source for suspect in found)
        figures[f"{name}_accuracy"] = float(np.mean(scores.argmax(1) == split.labels))
    return figures


def draw(found: list[dict[str, Any]], class_names: np.ndarray, path: Path) -> None:
    """Draw these suspects, each with its label and what it looks like."""
    images = np.array([suspect["image"] for suspect in found], np.uint8).reshape(-1, 32, 32, 3)
    captions = [
        (f"labelled {class_names[suspect['label']]},", f"looks like {class_names[suspect['suggested']]}")
        for suspect in found
    ]
    captioned_grid(images, captions, [INK] * len(found), TILES_IN_A_ROW).save(path, "PNG")


if __name__ == "__main__":
    run_stage(suspect_labels, SuspectLabelsParams)
