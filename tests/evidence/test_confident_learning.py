import numpy as np
import pytest

from pipeline.evidence.confident_learning import class_thresholds, find_suspects


def test_suspects_have_another_confident_class_than_their_label_and_the_least_probable_label_is_first():
    probabilities = np.array(
        [
            [0.6, 0.3, 0.1],  # label 1, confidently 0
            [0.8, 0.1, 0.1],
            [0.6, 0.3, 0.1],
            [0.1, 0.8, 0.1],  # label 0, confidently 1
            [0.1, 0.9, 0.0],
            [0.4, 0.0, 0.6],  # label 2, the only image with it
        ],
        np.float32,
    )
    labels = np.array([1, 0, 0, 0, 1, 2], np.uint8)
    # By hand: (0.8 + 0.6 + 0.1) / 3, (0.3 + 0.9) / 2, 0.6
    assert class_thresholds(probabilities, labels) == pytest.approx([0.5, 0.6, 0.6])
    positions, suggested = find_suspects(probabilities, labels)
    assert positions.tolist() == [3, 0]
    assert suggested.tolist() == [1, 0]


def test_a_rare_class_with_a_low_threshold_does_not_make_other_images_suspects():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.9, 0.1]], np.float32)
    labels = np.array([0, 0, 0, 1])
    assert class_thresholds(probabilities, labels) == pytest.approx([0.8, 0.1])
    assert [found.tolist() for found in find_suspects(probabilities, labels)] == [[3], [0]]


def test_labels_of_more_than_256_classes_are_compared_as_they_are():
    probabilities = np.full((4, 300), 0.001, np.float32)
    probabilities[[0, 1, 2, 3], [299, 43, 299, 299]] = 0.7
    labels = np.array([299, 43, 43, 299], np.uint16)  # 299 - 256 is 43
    assert [found.tolist() for found in find_suspects(probabilities, labels)] == [[2], [299]]


def test_an_image_without_a_confident_class_is_not_a_suspect():
    probabilities = np.array([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0], [0.2, 0.8]], np.float32)
    labels = np.array([0, 1, 1, 0])
    assert class_thresholds(probabilities, labels) == pytest.approx([0.6, 0.7])
    assert find_suspects(probabilities, labels)[0].tolist() == [3, 1]
    probabilities[1] = [0.55, 0.45]  # now the second image has no confident class
    assert find_suspects(probabilities, labels)[0].tolist() == [3]


def test_a_class_that_is_no_label_is_never_suggested():
    probabilities = np.array([[0.4, 0.1, 0.5], [0.2, 0.7, 0.1]], np.float32)
    assert class_thresholds(probabilities, np.array([0, 1])).tolist() == pytest.approx([0.4, 0.7, np.inf])
    assert len(find_suspects(probabilities, np.array([0, 1]))[0]) == 0
