import numpy as np
import pytest
from projects import ROOT

from pipeline.data.splits import Split
from pipeline.data.synthetic import CLASS_NAMES, generate
from pipeline.evaluation.reliability import calibration_error, reliability_bins, without_temperature
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.training.temperature import calibrate, fit_temperature, predict_logits


def draw_labels(logits, seed=0):
    """A label for each row, drawn with the softmax of the logits as probabilities."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return (logits + noise).argmax(1)


@pytest.fixture
def logits():
    return np.random.default_rng(1).normal(0, 2, (20_000, 5))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_is_the_factor_by_which_logits_are_too_large(logits, factor):
    assert fit_temperature(logits * factor, draw_labels(logits)) == pytest.approx(factor, rel=0.03)


def test_if_all_predictions_are_correct_the_temperature_stays_within_bounds(logits):
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(0.25, rel=0.01)


def test_probabilities_of_an_overconfident_model_are_calibrated(logits):
    labels = draw_labels(logits)
    overconfident = softmax(3 * logits)
    temperature = fit_temperature(3 * logits, labels)
    calibrated = softmax(3 * logits / temperature)
    assert calibration_error(reliability_bins(overconfident, labels)) > 0.15
    assert calibration_error(reliability_bins(calibrated, labels)) < 0.015
    assert without_temperature(calibrated, temperature) == pytest.approx(overconfident, abs=1e-9)


def softmax(values):
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_the_calibration_error_of_a_hand_made_case():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    rows = reliability_bins(probabilities, np.array([0, 0, 0, 1, 1, 0]))
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
def test_a_calibrated_network_predicts_the_same_classes_with_other_probabilities(name, validation, monkeypatch):
    monkeypatch.chdir(ROOT)
    keras = start_keras()
    keras.utils.set_random_seed(0)
    model = NETWORKS[name].finish(NETWORKS[name].build(10, 32))
    last = model.layers[-1]
    last.set_weights([weights * 6 / predict_logits(model, validation.images).std() for weights in last.get_weights()])
    before, raw = model.predict(validation.images, verbose=0), predict_logits(model, validation.images)
    assert softmax(raw) == pytest.approx(before, abs=1e-4)
    temperature = calibrate(model, validation._replace(labels=draw_labels(raw / 3)))
    assert temperature == pytest.approx(3, rel=0.2)
    after = model.predict(validation.images, verbose=0)
    assert after == pytest.approx(softmax(raw / temperature), abs=1e-5)
    clear = np.diff(np.sort(raw, axis=1)[:, -2:]).ravel() > 1e-3
    assert (after.argmax(1) == before.argmax(1))[clear].all()
    assert predict_logits(model, validation.images) == pytest.approx(raw / temperature, abs=1e-4)
