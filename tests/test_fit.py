import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from pipeline.checkpoint import Checkpoint
from pipeline.errors import PipelineError
from pipeline.generated import CLASS_NAMES, generate
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS
from pipeline.splits import Split
from pipeline.train import TrainParams

start_keras()

from pipeline import devices, fit  # noqa: E402 - Keras must have been started

PARAMS = TrainParams(model="basic", epochs=2, batch_size=50, learning_rate=None, seed=0)


@pytest.fixture(scope="module")
def toy():
    images, labels = generate(300, seed=0)
    return Split(images, labels, np.arange(300), np.array(CLASS_NAMES), "")


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def precision(request, monkeypatch):
    monkeypatch.setattr(devices, "precision", lambda: request.param)
    return request.param


def test_it_learns_a_toy_set(toy):
    params = PARAMS.model_copy(update={"epochs": 60})
    _, rows, _ = fit.fit(params, toy, toy)
    assert max(row["accuracy"] for row in rows) > 0.95


@pytest.mark.parametrize(("name", "epochs"), [("fast", 12), ("accurate", 20)])
def test_the_other_networks_learn_in_fewer_epochs(toy, name, epochs):
    params = PARAMS.model_copy(update={"model": name, "epochs": epochs})
    _, rows, _ = fit.fit(params, toy, toy)
    assert max(row["validation_accuracy"] for row in rows) > 0.95


def test_the_kept_weights_are_those_of_the_epoch_best_on_validation_in_float32(precision):
    """Validated on wrong labels of the same images, what is learnt makes the score fall: the best epoch is not the last."""
    images, labels = generate(300, seed=0)
    names = np.array(CLASS_NAMES)
    training, validation = Split(images, labels, 0, names, ""), Split(images, (labels + 1) % 10, 0, names, "")
    params = PARAMS.model_copy(update={"epochs": 25})
    model, rows, seconds = fit.fit(params, training, validation)
    accuracies = [row["validation_accuracy"] for row in rows]
    assert accuracies[-1] < max(accuracies)
    accuracy, loss = fit.score(model, validation)
    assert accuracy == pytest.approx(max(accuracies), abs=1e-6 if precision == "float32" else 0.02)
    assert loss == pytest.approx(max(rows, key=lambda row: row["validation_accuracy"])["validation_loss"], rel=0.05)
    assert {weight.dtype for weight in model.weights} == {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert seconds > 0
    assert not model.compiled


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_that_goes_on_from_any_epoch_ends_in_the_same_weights(toy, name, precision):
    params = PARAMS.model_copy(update={"model": name, "epochs": 3})
    states = []

    def end_epoch(state):
        states.append(Checkpoint(list(state.rows), state.seconds, state.state, state.best))

    model, rows, _ = fit.fit(params, toy, toy, end_epoch)
    for begun in states:
        resumed, resumed_rows, seconds = fit.fit(params, toy, toy, begun=begun)
        assert all(map(np.array_equal, resumed.get_weights(), model.get_weights()))
        assert resumed_rows == rows
        assert seconds > begun.seconds


def test_a_training_with_another_seed_differs(toy):
    one, other = (fit.fit(PARAMS.model_copy(update={"seed": seed}), toy, toy)[0].get_weights() for seed in (0, 1))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize(("name", "step"), [("basic", 6), ("fast", r"\d")])
def test_a_training_that_diverges_is_told_with_epoch_step_and_learning_rate(toy, name, step):
    params = PARAMS.model_copy(update={"model": name, "learning_rate": 1e30})
    with pytest.raises(
        PipelineError,
        match=rf"the loss became (nan|inf) in epoch \d by step {step} of 6, where the learning rate is \d[.\d]*e\+\d+: .*dvc repro",
    ):
        fit.fit(params, toy, toy)


def test_a_batch_of_more_images_than_there_are_is_refused(toy):
    with pytest.raises(
        PipelineError, match=r"a batch is 301 images, but there are 300 to train on\. Lower .*dvc repro"
    ):
        fit.fit(PARAMS.model_copy(update={"batch_size": 301}), toy, toy)


def test_a_batch_that_memory_does_not_hold_is_told(toy, monkeypatch):
    """Memory that is short cannot be had without harm to the machine: TensorFlow's own error is raised by hand."""

    def exhaust(*_, **__):
        raise fit.tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(fit.keras.Model, "fit", exhaust)
    with pytest.raises(PipelineError, match=r"memory does not hold a batch of 50 images\. Lower train.batch_size"):
        fit.fit(PARAMS, toy, toy)


@pytest.mark.parametrize(
    ("steps", "size", "number"), [(703, 64, 19), (90, 500, 2), (97, 64, 1), (4, 2000, 1), (8, 64, 8)]
)
def test_a_call_makes_a_whole_part_of_an_epochs_steps(steps, size, number):
    assert fit.steps_per_call(steps, size) == number


def test_a_score_is_exact():
    keras = start_keras()
    keras.config.set_dtype_policy("float32")
    layers = keras.layers
    by_colour = keras.Sequential(
        [
            layers.Input((32, 32, 3), dtype="uint8"),
            layers.Rescaling(1.0),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )
    images = np.broadcast_to(np.array([[2, 1, 0], [0, 3, 0], [1, 0, 0]], np.uint8)[:, None, None], (3, 32, 32, 3))
    accuracy, loss = fit.score(by_colour, Split(images, np.array([0, 1, 2]), 0, np.array(["r", "g", "b"]), ""))
    e = np.e
    assert accuracy == pytest.approx(2 / 3)
    expected = -np.log([e**2 / (e**2 + e + 1), e**3 / (e**3 + 2), 1 / (e + 2)]).mean()
    assert loss == pytest.approx(expected, rel=1e-6)


TWO_DEVICES = """
import json, sys
import numpy as np
from pipeline.keras_start import start_keras
start_keras()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pipeline import devices, fit
from pipeline.generated import CLASS_NAMES, generate
from pipeline.splits import Split
from pipeline.train import TrainParams
devices.precision = lambda: "float32"
if sys.argv[2] == "both":
    devices.names = lambda: ["CPU:0", "CPU:1"]
images, labels = generate(300, seed=0)
toy = Split(images, labels, 0, np.array(CLASS_NAMES), "")
params = TrainParams(model=sys.argv[1], epochs=12, batch_size=50, learning_rate=None, seed=0)
states = []
model, rows, _ = fit.fit(params, toy, toy, lambda state: states.append(state._replace(rows=list(state.rows))))
resumed, again, _ = fit.fit(params, toy, toy, begun=states[5])
same = again == rows and all(map(np.array_equal, resumed.get_weights(), model.get_weights()))
predicted = model.predict(images, verbose=0).argmax(1)
print(json.dumps({"replicas": devices.strategy().num_replicas_in_sync, "loss": [row["loss"] for row in rows], "same": same,
                  "accuracy": float((predicted == labels).mean()), "best": max(row["validation_accuracy"] for row in rows)}))
"""


@pytest.mark.parametrize("name", ["basic", "fast"])
def test_two_devices_train_as_one_does_and_go_on_from_an_epoch(name):
    told = {}
    for which in ("one", "both"):
        command = [sys.executable, "-c", TWO_DEVICES, name, which]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told[which] = json.loads(done.stdout.splitlines()[-1])
    assert (told["one"]["replicas"], told["both"]["replicas"]) == (1, 2)
    assert told["both"]["same"]
    assert told["both"]["accuracy"] == pytest.approx(told["both"]["best"])
    if name == "basic":  # without batch normalisation, the halves of a batch give its gradient
        np.testing.assert_allclose(told["one"]["loss"][:5], told["both"]["loss"][:5], rtol=0.01)
    else:
        assert told["both"]["best"] > 0.9
