import numpy as np
import pytest

from pipeline.confident import class_thresholds, suspects


def test_suspects_are_those_whose_confident_class_is_not_their_label_the_least_probable_label_first():
    probabilities = np.array(
        [
            [0.6, 0.3, 0.1],  # labelled 1, confidently 0
            [0.8, 0.1, 0.1],
            [0.6, 0.3, 0.1],
            [0.1, 0.8, 0.1],  # labelled 0, confidently 1
            [0.1, 0.9, 0.0],
            [0.4, 0.0, 0.6],  # labelled 2, as probable as ever an image of class 2 is
        ],
        np.float32,
    )
    labels = np.array([1, 0, 0, 0, 1, 2], np.uint8)
    # By hand: (0.8 + 0.6 + 0.1) / 3, (0.3 + 0.9) / 2, 0.6
    assert class_thresholds(probabilities, labels) == pytest.approx([0.5, 0.6, 0.6])
    found = suspects(probabilities, labels)
    assert found.position.tolist() == [3, 0]
    assert found.suggested.tolist() == [1, 0]


def test_an_image_of_which_no_class_is_confident_is_no_suspect():
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0], [0.2, 0.8]], np.float32)
    labels = np.array([0, 1, 1, 0])
    assert class_thresholds(probabilities, labels) == pytest.approx([0.6, 0.7])
    assert suspects(probabilities, labels).position.tolist() == [3, 1]
    probabilities[1] = [0.55, 0.45]  # now the second image is sure of nothing
    assert suspects(probabilities, labels).position.tolist() == [3]


def test_a_class_without_a_label_is_never_suggested():
    probabilities = np.array([[0.4, 0.1, 0.5], [0.2, 0.7, 0.1]], np.float32)
    assert class_thresholds(probabilities, np.array([0, 1])).tolist() == pytest.approx([0.4, 0.7, np.inf])
    assert len(suspects(probabilities, np.array([0, 1])).position) == 0
