import numpy as np
import pytest

from pipeline.evaluation.metrics import classification_metrics, per_class_metrics

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 0, 0])


def one_hot(predicted, classes=3):
    return np.eye(classes, dtype=np.float32)[predicted]


def test_metrics_of_a_hand_made_case():
    metrics = classification_metrics(LABELS, one_hot(PREDICTED))
    assert metrics["accuracy"] == 5 / 8
    assert metrics["images"] == 8
    # Wilson, by hand: (5 + z²/2 ± z sqrt(5 · 3 / 8 + z²/4)) / (8 + z²), z = 1.959964
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == pytest.approx((0.305742, 0.863155), abs=1e-5)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert 0 < metrics["macro_f1_low"] < metrics["macro_f1"] < metrics["macro_f1_high"] < 1


def test_per_class_metrics_of_a_hand_made_case():
    classes = per_class_metrics(LABELS, PREDICTED, ["a", "b", "c"])
    assert [row["precision"] for row in classes] == pytest.approx([3 / 5, 2 / 3, 0])
    assert [row["recall"] for row in classes] == pytest.approx([3 / 4, 2 / 3, 0])
    assert [(row["class_name"], row["images"]) for row in classes] == [("a", 4), ("b", 3), ("c", 1)]
    never_predicted = classes[2]
    assert (never_predicted["precision_low"], never_predicted["precision_high"]) == (0, 1)
    assert (never_predicted["f1"], never_predicted["f1_high"]) == (0, 0)


def test_top_3_counts_an_image_whose_class_is_third():
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    assert classification_metrics(np.array([2, 2, 3]), probabilities)["top3_accuracy"] == pytest.approx(2 / 3)


def test_f1_equals_that_of_scikit_learn_and_its_interval_is_as_wide_as_the_spread_on_new_images():
    from sklearn.metrics import f1_score

    random = np.random.default_rng(0)

    def draw(images):
        labels = random.integers(0, 3, images)
        return labels, np.where(random.random(images) < 0.7, labels, random.integers(0, 3, images))

    labels, predicted = draw(500)
    metrics = classification_metrics(labels, one_hot(predicted))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    on_new_images = [f1_score(*draw(500), average="macro") for _ in range(300)]
    width = metrics["macro_f1_high"] - metrics["macro_f1_low"]
    assert width == pytest.approx(np.percentile(on_new_images, 97.5) - np.percentile(on_new_images, 2.5), rel=0.2)


def test_two_calls_give_the_same_interval():
    assert classification_metrics(LABELS, one_hot(PREDICTED)) == classification_metrics(LABELS, one_hot(PREDICTED))
