import numpy as np
import pytest
from projects import OWN_VALUES

from pipeline.data.splits import Split
from pipeline.models.keras_backend import start_keras
from pipeline.training.class_weight import balanced_class_weight
from pipeline.training.settings import TrainParams

start_keras()

from pipeline.training import fit  # noqa: E402 - Keras must have been started

PARAMS = TrainParams(model="fast", epochs=4, batch_size=50, **OWN_VALUES, seed=1)


def test_the_weight_of_a_class_is_inverse_to_its_images_and_the_mean_of_all_images_is_1():
    labels = np.repeat(np.array([0, 1, 3], np.uint8), [300, 90, 10])
    weights = balanced_class_weight(labels)
    assert weights == pytest.approx({0: 400 / (3 * 300), 1: 400 / (3 * 90), 3: 400 / (3 * 10)})
    assert np.mean([weights[label] for label in labels.tolist()]) == pytest.approx(1)


def test_equal_classes_have_equal_weights():
    assert balanced_class_weight(np.arange(1000, dtype=np.uint16)) == dict.fromkeys(range(1000), 1.0)


def overlapping(rare, seed):
    """400 images of two classes, the second with `rare` images; it is brighter, but the two overlap."""
    labels = (np.arange(400) < rare).astype(np.uint8)
    brightness = np.random.default_rng(seed).normal(110 + 30 * labels, 20).clip(0, 255).astype(np.uint8)
    images = brightness[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3)
    return Split(images, labels, np.arange(400, dtype=np.int32), np.array(["common", "rare"]), "")


def test_balanced_weights_improve_the_recall_of_a_rare_class():
    training, validation = overlapping(20, seed=0), overlapping(200, seed=1)
    recalls = {}
    for weight in (None, "balanced"):
        model, _, _ = fit.fit(PARAMS.model_copy(update={"class_weight": weight}), training, validation)
        predicted = model.predict(validation.images, verbose=0).argmax(1)
        recalls[weight] = np.mean(predicted[validation.labels == 1])
    assert recalls[None] < 0.3
    assert recalls["balanced"] > 0.6


def test_a_class_without_images_has_no_weight_and_does_not_stop_the_fit():
    split = overlapping(200, seed=0)._replace(class_names=np.array(["common", "rare", "absent", "also absent"]))
    params = PARAMS.model_copy(update={"class_weight": "balanced", "epochs": 1})
    _, (row,), _ = fit.fit(params, split, split)
    assert np.isfinite(row["loss"])
