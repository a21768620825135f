"""How well suspect labels are found: labels are made wrong on purpose, and looked for in the stage's list.

    python -m benchmarks.suspects models/model.onnx data/splits/train.npz data/splits/validation.npz

Settings are those of section `suspect_labels` of params.yaml. The model has learnt from the right
labels, which helps with the validation images, a tenth of all.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import one_message
from pipeline.onnx_model import session_for
from pipeline.params import read_params
from pipeline.splits import Split, read_split
from pipeline.suspect_labels import Judged, SuspectLabelsParams, judge, ranked

SHARE = 0.02  # of labels made wrong
SEED = 0
FIRST = 100  # suspects that a person would look through


def flipped(split: Split, share: float, seed: int) -> tuple[Split, np.ndarray]:
    """The split with a share of its labels changed to another class, each as likely; bool (n,), which ones."""
    random, images, classes = np.random.default_rng(seed), len(split.labels), len(split.class_names)
    wrong = np.isin(np.arange(images), random.permutation(images)[: round(share * images)])
    labels = (split.labels + wrong * random.integers(1, classes, images)) % classes
    return split._replace(labels=labels.astype(split.labels.dtype)), wrong


def measure(params: SuspectLabelsParams, session: Any, learnt: Split, held_back: Split) -> dict[str, float]:
    """Flip labels of both splits and tell how many the list holds, and how many its first places."""
    (noisy, wrong), (noisy_held_back, wrong_held_back) = (flipped(each, SHARE, SEED) for each in (learnt, held_back))
    groups = judge(params, session, noisy, noisy_held_back)
    truth = {
        int(index): label
        for split, chosen in ((learnt, wrong), (held_back, wrong_held_back))
        for index, label in zip(split.archive_index[chosen], split.labels[chosen], strict=True)
    }
    return summarize(groups, truth)


def summarize(groups: list[Judged], truth: dict[int, int]) -> dict[str, float]:
    """Recall and precision of the list, of its first places in both orders, and how often it suggests the right class.

    Args:
        truth: the right label of every image whose label was made wrong, by archive index.
    """
    found, count = ranked(groups), len(truth)
    by_margin = sorted(found, key=lambda suspect: suspect["probability_of_label"] - suspect["probability_of_suggested"])
    hits = [suspect for suspect in found if suspect["archive_index"] in truth]

    def share(places: list[dict[str, Any]]) -> float:
        return sum(suspect["archive_index"] in truth for suspect in places) / max(len(places), 1)

    return {
        "images": sum(len(group.split.labels) for group in groups),
        "flipped": count,
        "suspects": len(found),
        "recall": len(hits) / count,
        "precision": share(found),
        f"precision_of_first_{FIRST}": share(found[:FIRST]),
        "precision_of_as_many_as_flipped": share(found[:count]),
        f"precision_of_first_{FIRST}_by_margin": share(by_margin[:FIRST]),
        "precision_of_as_many_as_flipped_by_margin": share(by_margin[:count]),
        "right_suggestions": sum(suspect["suggested"] == truth[suspect["archive_index"]] for suspect in hits)
        / max(len(hits), 1),
    }


if __name__ == "__main__":
    with one_message("suspects"):
        settings = SuspectLabelsParams.of_section("suspect_labels", read_params()["suspect_labels"])
        model, train, validation = map(Path, sys.argv[1:])
        splits = read_split(train), read_split(validation)
        onnx_session = session_for(model, splits[0].class_names.tolist(), splits[0].archive_sha256)
        print(json.dumps(measure(settings, onnx_session, *splits), indent=2))
