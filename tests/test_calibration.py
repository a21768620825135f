import numpy as np
import pytest
from conftest import ROOT

from pipeline.calibration import calibrate, calibration_error, fit_temperature, logits, reliability, uncalibrated
from pipeline.generated import CLASS_NAMES, generate
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS
from pipeline.splits import Split


def labels_drawn_from(scores, seed=0):
    """A label for each row, drawn by the probabilities that softmax makes of the logits."""
    noise = np.random.default_rng(seed).gumbel(size=scores.shape)
    return (scores + noise).argmax(1)


@pytest.fixture
def scores():
    return np.random.default_rng(1).normal(0, 2, (20_000, 5))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_factor_by_which_logits_are_too_large(scores, factor):
    assert fit_temperature(scores * factor, labels_drawn_from(scores)) == pytest.approx(factor, rel=0.03)


def test_without_a_mistake_the_temperature_stays_within_bounds(scores):
    assert fit_temperature(scores, scores.argmax(1)) == pytest.approx(0.25, rel=0.01)


def test_probabilities_of_a_too_sure_model_are_put_right(scores):
    labels = labels_drawn_from(scores)
    too_sure = softmax(3 * scores)
    temperature = fit_temperature(3 * scores, labels)
    calibrated = softmax(3 * scores / temperature)
    assert calibration_error(reliability(too_sure, labels)) > 0.15
    assert calibration_error(reliability(calibrated, labels)) < 0.015
    assert uncalibrated(calibrated, temperature) == pytest.approx(too_sure, abs=1e-9)


def softmax(values):
    raised = np.exp(values - values.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def test_the_error_by_hand():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    rows = reliability(scores, np.array([0, 0, 0, 1, 1, 0]))
    assert rows == [
        {"confidence": 0.6, "accuracy": 1.0, "images": 1},
        {"confidence": pytest.approx(0.9), "accuracy": 0.75, "images": 4},
        {"confidence": 1.0, "accuracy": 1.0, "images": 1},
    ]
    assert calibration_error(rows) == pytest.approx((0.4 + 4 * 0.15 + 0) / 6)


@pytest.fixture
def validation():
    images, labels = generate(600, seed=3)
    return Split(images, labels, np.arange(600, dtype=np.int32), np.array(CLASS_NAMES), "ab" * 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_calibrated_network_names_the_same_classes_and_holds_the_temperature(name, validation, monkeypatch):
    monkeypatch.chdir(ROOT)
    keras = start_keras()
    keras.utils.set_random_seed(0)
    model = NETWORKS[name].build(10)
    last = model.layers[-1]
    last.set_weights([weights * 6 / logits(model, validation.images).std() for weights in last.get_weights()])
    before, raw = model.predict(validation.images, verbose=0), logits(model, validation.images)
    assert softmax(raw) == pytest.approx(before, abs=1e-4)
    temperature = calibrate(model, validation._replace(labels=labels_drawn_from(raw / 3)))
    assert temperature == pytest.approx(3, rel=0.2)
    after = model.predict(validation.images, verbose=0)
    assert after == pytest.approx(softmax(raw / temperature), abs=1e-5)
    clear = np.diff(np.sort(raw, axis=1)[:, -2:]).ravel() > 1e-3
    assert (after.argmax(1) == before.argmax(1))[clear].all()
    assert logits(model, validation.images) == pytest.approx(raw / temperature, abs=1e-4)
