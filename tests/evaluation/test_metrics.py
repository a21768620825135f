import numpy as np
import pytest

from pipeline.evaluation.metrics import RESAMPLES, classification_metrics, count_and_resample, per_class_metrics

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


@pytest.mark.parametrize(("classes", "ks"), [(2, []), (3, []), (4, [3]), (50, [3]), (51, [3, 5]), (1000, [3, 5])])
def test_top_k_accuracy_is_measured_where_it_says_something(classes, ks):
    labels = np.arange(classes, dtype=np.uint16)
    probabilities = np.roll(one_hot(labels, classes), 1, axis=1) + one_hot(labels, classes) / 2  # the label is second
    metrics = classification_metrics(labels, probabilities)
    assert [name for name in metrics if "top" in name and name.endswith("accuracy")] == [f"top{k}_accuracy" for k in ks]
    assert {metrics[f"top{k}_accuracy"] for k in ks} <= {1.0}
    assert metrics["accuracy"] == 0


def test_unequal_classes_get_a_balanced_accuracy_and_classes_without_images_do_not_count():
    from sklearn.metrics import balanced_accuracy_score, f1_score

    random = np.random.default_rng(0)
    labels = random.choice(300, 900, p=np.r_[0.4, np.full(298, 0.6 / 298), 0]).astype(np.uint16)
    predicted = np.where(random.random(900) < 0.7, labels, random.permutation(labels))
    metrics = classification_metrics(labels, one_hot(predicted, 300))
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert metrics["balanced_accuracy_low"] < metrics["balanced_accuracy"] < metrics["balanced_accuracy_high"]
    *_, row = per_class_metrics(labels, predicted, [str(number) for number in range(300)])
    assert (row["images"], row["recall"], row["recall_low"], row["recall_high"]) == (0, 0, 0, 1)


def test_for_equal_classes_balanced_accuracy_is_the_accuracy_so_it_is_not_measured():
    assert "balanced_accuracy" not in classification_metrics(np.array([0, 1, 2]), one_hot([0, 1, 1]))


@pytest.mark.parametrize("block", [1, 20_000])
def test_resamples_are_those_of_the_whole_confusion_matrix_in_blocks_of_any_size(block, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.metrics.BLOCK", block)
    _, resampled = count_and_resample(LABELS, PREDICTED, 3)
    matrix = np.array([[3, 1, 0], [1, 2, 0], [1, 0, 0]])  # the last cell is empty
    whole = np.random.default_rng(0).multinomial(8, matrix.ravel() / 8, RESAMPLES).reshape(-1, 3, 3)
    expected = whole.diagonal(axis1=1, axis2=2), whole.sum(2), whole.sum(1)
    assert all(map(np.array_equal, resampled, expected))


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
