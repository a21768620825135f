"""Recall and precision of suspect labels: a share of the labels is changed, and the stage's list is searched for them.

    python -m benchmarks.suspects models/model.onnx data/splits/train.npz data/splits/validation.npz

The settings are those of section `suspect_labels` of params.yaml. The ONNX model was trained on the
original labels, which makes the validation images easier. They are a tenth of all images.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.changed_data import flip_labels
from pipeline.common.errors import exit_on_error
from pipeline.common.params import read_params
from pipeline.data.splits import Split, read_split
from pipeline.onnx.session import session_for
from pipeline.suspect_labels import OutOfSample, Suspect, SuspectLabelsParams, predict_out_of_sample, rank_suspects

if TYPE_CHECKING:
    import onnxruntime

SHARE = 0.02  # of the labels that are changed
SEED = 0
FIRST = 100  # suspects that a person would look at


def with_flipped_labels(split: Split, share: float, seed: int) -> tuple[Split, dict[int, str]]:
    """The split with a share of its labels changed, and the original class names of those images by archive index."""
    labels = flip_labels(split.labels, len(split.class_names), share, np.random.default_rng(seed))
    is_flipped = labels != split.labels
    names = split.class_names[split.labels[is_flipped]].tolist()
    return split._replace(labels=labels), dict(zip(split.archive_index[is_flipped].tolist(), names, strict=True))


def measure(
    params: SuspectLabelsParams, session: "onnxruntime.InferenceSession", training: Split, validation: Split
) -> dict[str, float]:
    """Recall and precision of the suspects after a share of the labels of both splits was changed."""
    (training, original), (validation, original_validation) = (
        with_flipped_labels(split, SHARE, SEED) for split in (training, validation)
    )
    groups = predict_out_of_sample(params, session, training, validation)
    return summarize(groups, original | original_validation)


def summarize(groups: list[OutOfSample], original: dict[int, str]) -> dict[str, float]:
    """Recall and precision of the list, precision of its first rows in two orders, and the correct suggestions.

    Args:
        original: the class name before the label was changed, by archive index.
    """
    suspects, count = rank_suspects(groups), len(original)
    by_margin = sorted(suspects, key=lambda suspect: suspect.probability_of_label - suspect.probability_of_suggested)
    found = [suspect for suspect in suspects if suspect.archive_index in original]

    def precision(rows: list[Suspect]) -> float:
        return sum(suspect.archive_index in original for suspect in rows) / max(len(rows), 1)

    return {
        "images": sum(len(group.split.labels) for group in groups),
        "flipped": count,
        "suspects": len(suspects),
        "recall": len(found) / count,
        "precision": precision(suspects),
        f"precision_of_first_{FIRST}": precision(suspects[:FIRST]),
        "precision_of_as_many_as_flipped": precision(suspects[:count]),
        f"precision_of_first_{FIRST}_by_margin": precision(by_margin[:FIRST]),
        "precision_of_as_many_as_flipped_by_margin": precision(by_margin[:count]),
        "right_suggestions": sum(suspect.suggested == original[suspect.archive_index] for suspect in found)
        / max(len(found), 1),
    }


if __name__ == "__main__":
    with exit_on_error("suspects"):
        settings = SuspectLabelsParams.of_section("suspect_labels", read_params()["suspect_labels"])
        model, train, validation = map(Path, sys.argv[1:])
        splits = read_split(train), read_split(validation)
        onnx_session = session_for(model, splits[0].class_names.tolist(), splits[0].archive_sha256)
        print(json.dumps(measure(settings, onnx_session, *splits), indent=2))
