import numpy as np
import pytest
from projects import OWN_VALUES
from toy_models import COLOURS, paint, write_colour_model

from benchmarks.suspects import measure, summarize, with_flipped_labels
from pipeline.onnx.session import session_for
from pipeline.suspect_labels import OutOfSample, SuspectLabelsParams

PARAMS = SuspectLabelsParams(model="basic", epochs=2, batch_size=10, **OWN_VALUES, seed=0, folds=2, pictures=4)


def test_a_share_of_the_labels_is_changed_to_other_classes_and_found(tmp_path):
    training, validation = paint(300), paint(50, first=300)
    changed, original = with_flipped_labels(training, share=0.25, seed=0)
    is_changed = changed.labels != training.labels
    assert is_changed.sum() == 75
    assert original == {i: COLOURS[training.labels[i]] for i in np.flatnonzero(is_changed)}
    assert len(np.unique((changed.labels.astype(int) - training.labels)[is_changed] % 3)) == 2
    model = write_colour_model(tmp_path / "model.onnx")
    session = session_for(model, training.class_names.tolist(), training.archive_sha256)
    figures = measure(PARAMS, session, training, validation)
    assert (figures["images"], figures["flipped"], figures["right_suggestions"]) == (350, 7, 1)
    assert figures["recall"] > 0.7


def test_figures_of_a_hand_made_case():
    """Two of three changed labels are found, and an unchanged label is ranked between them."""
    split = paint(6)._replace(labels=np.array([1, 1, 2, 1, 2, 0], np.uint8))
    probabilities = np.eye(3, dtype=np.float32)[split.labels] * 0.4 + 0.2
    probabilities[:3] = [[0.9, 0.1, 0.0], [0.08, 0.04, 0.88], [0.7, 0.1, 0.2]]  # margins 0.84, 0.8 and 0.5
    figures = summarize([OutOfSample(split, probabilities, "out-of-fold")], {0: "red", 2: "green", 4: "green"})
    assert figures["suspects"] == 3
    assert figures["recall"] == figures["precision"] == pytest.approx(2 / 3)
    assert figures["right_suggestions"] == 0.5
