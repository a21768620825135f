import numpy as np
import pytest

from pipeline.scores import measure, measure_classes

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 0, 0])


def certain(predicted, classes=3):
    return np.eye(classes, dtype=np.float32)[predicted]


def test_figures_on_a_hand_made_case():
    figures = measure(LABELS, certain(PREDICTED))
    assert figures["accuracy"] == 5 / 8
    assert figures["images"] == 8
    # Wilson, by hand: (5 + z²/2 ± z sqrt(5 · 3 / 8 + z²/4)) / (8 + z²), z = 1.959964
    assert (figures["accuracy_low"], figures["accuracy_high"]) == pytest.approx((0.305742, 0.863155), abs=1e-5)
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert 0 < figures["macro_f1_low"] < figures["macro_f1"] < figures["macro_f1_high"] < 1


def test_figures_of_classes_on_a_hand_made_case():
    classes = measure_classes(LABELS, PREDICTED, ["a", "b", "c"])
    assert [row["precision"] for row in classes] == pytest.approx([3 / 5, 2 / 3, 0])
    assert [row["recall"] for row in classes] == pytest.approx([3 / 4, 2 / 3, 0])
    assert [(row["class_name"], row["images"]) for row in classes] == [("a", 4), ("b", 3), ("c", 1)]
    never_named = classes[2]
    assert (never_named["precision_low"], never_named["precision_high"]) == (0, 1)
    assert (never_named["f1"], never_named["f1_high"]) == (0, 0)


def test_top_3_counts_an_image_whose_class_is_third():
    scores = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    assert measure(np.array([2, 2, 3]), scores)["top3_accuracy"] == pytest.approx(2 / 3)


def test_f1_agrees_with_scikit_learn_and_its_interval_covers_what_new_images_give():
    from sklearn.metrics import f1_score

    random = np.random.default_rng(0)

    def draw(images):
        labels = random.integers(0, 3, images)
        return labels, np.where(random.random(images) < 0.7, labels, random.integers(0, 3, images))

    labels, predicted = draw(500)
    figures = measure(labels, certain(predicted))
    assert figures["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    again = [f1_score(*draw(500), average="macro") for _ in range(300)]
    width = figures["macro_f1_high"] - figures["macro_f1_low"]
    assert width == pytest.approx(np.percentile(again, 97.5) - np.percentile(again, 2.5), rel=0.2)


def test_two_calls_give_the_same_interval():
    assert measure(LABELS, certain(PREDICTED)) == measure(LABELS, certain(PREDICTED))
