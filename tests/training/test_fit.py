import json
import subprocess
import sys

import numpy as np
import pytest
from projects import OWN_VALUES, ROOT

from pipeline.common.errors import PipelineError
from pipeline.data.splits import Split
from pipeline.data.synthetic import CLASS_NAMES, generate
from pipeline.models import whitening
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.settings import TrainParams

start_keras()

from pipeline.training import devices, fit  # noqa: E402 - Keras must have been started

PARAMS = TrainParams(model="basic", epochs=2, batch_size=50, **OWN_VALUES, seed=0)


@pytest.fixture(scope="module")
def toy():
    images, labels = generate(300, seed=0)
    return Split(images, labels, np.arange(300), np.array(CLASS_NAMES), "")


@pytest.fixture(scope="module")
def small(toy):
    """A third of them, for trainings of which only the equality counts."""
    return toy._replace(images=toy.images[:100], labels=toy.labels[:100])


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def precision(request, monkeypatch):
    monkeypatch.setattr(devices, "precision", lambda: request.param)
    return request.param


def test_it_learns_a_toy_set(toy):
    params = PARAMS.model_copy(update={"epochs": 60})
    _, rows, _ = fit.fit(params, toy, toy)
    assert max(row["accuracy"] for row in rows) > 0.95


@pytest.mark.parametrize(("name", "images", "epochs"), [("fast", 300, 12), ("accurate", 100, 20)])
def test_the_other_networks_learn_in_fewer_epochs(toy, name, images, epochs):
    params = PARAMS.model_copy(update={"model": name, "epochs": epochs})
    few = toy._replace(images=toy.images[:images], labels=toy.labels[:images])
    _, rows, _ = fit.fit(params, few, few)
    assert max(row["validation_accuracy"] for row in rows) > 0.95


def test_the_weights_are_those_of_the_epoch_with_the_best_validation_accuracy_in_float32(precision):
    """The validation labels are wrong, so training lowers the accuracy: the best epoch is not the last."""
    images, labels = generate(300, seed=0)
    names = np.array(CLASS_NAMES)
    training, validation = Split(images, labels, 0, names, ""), Split(images, (labels + 1) % 10, 0, names, "")
    params = PARAMS.model_copy(update={"epochs": 25})
    model, rows, seconds = fit.fit(params, training, validation)
    accuracies = [row["validation_accuracy"] for row in rows]
    assert accuracies[-1] < max(accuracies)
    accuracy, loss = fit.accuracy_and_loss(model, validation)
    assert accuracy == pytest.approx(max(accuracies), abs=1e-6 if precision == "float32" else 0.02)
    assert loss == pytest.approx(max(rows, key=lambda row: row["validation_accuracy"])["validation_loss"], rel=0.05)
    assert {weight.dtype for weight in model.weights} == {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert seconds > 0
    assert not model.compiled


def test_the_first_convolution_whitens_the_training_images_and_a_mirrored_network_is_finished(small):
    params = PARAMS.model_copy(update={"model": "accurate", "epochs": 1})
    model, _, _ = fit.fit(params, small, small)
    images = small.images.astype(np.float32) / 64 - 1.9
    kernel = next(weights for weights in model.get_weights() if weights.shape == (2, 2, 3, 24))
    # bfloat16 can change the sign of a direction, but both signs are there:
    np.testing.assert_allclose(np.abs(kernel), np.abs(whitening.kernel([images])), rtol=0.05, atol=0.05)
    probabilities = [model.predict(each, verbose=0) for each in (small.images, small.images[:, :, ::-1])]
    np.testing.assert_allclose(*probabilities, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_that_resumes_after_any_epoch_ends_with_the_same_weights(small, name, precision):
    params = PARAMS.model_copy(update={"model": name, "epochs": 3})
    states = []

    def end_epoch(state):
        states.append(Checkpoint(list(state.rows), state.seconds, state.state, state.best))

    model, rows, _ = fit.fit(params, small, small, end_epoch)
    for state in states:
        resumed, resumed_rows, seconds = fit.fit(params, small, small, checkpoint=state)
        assert all(map(np.array_equal, resumed.get_weights(), model.get_weights()))
        assert resumed_rows == rows
        assert seconds > state.seconds


def test_a_training_on_memory_mapped_splits_gives_the_same_weights(small, tmp_path):
    np.save(tmp_path / "images.npy", small.images)
    mapped = small._replace(images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    one, other = (fit.fit(PARAMS, split, split) for split in (small, mapped))
    assert all(map(np.array_equal, one[0].get_weights(), other[0].get_weights()))
    assert one[1] == other[1]


def test_a_training_with_another_seed_differs(toy):
    one, other = (fit.fit(PARAMS.model_copy(update={"seed": seed}), toy, toy)[0].get_weights() for seed in (0, 1))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize(("name", "step"), [("basic", 6), ("fast", r"\d")])
def test_a_training_that_diverges_is_reported_with_epoch_step_and_learning_rate(toy, name, step):
    params = PARAMS.model_copy(update={"model": name, "learning_rate": 1e30})
    with pytest.raises(
        PipelineError,
        match=rf"the loss became (nan|inf) in epoch \d by step {step} of 6, "
        r"where the learning rate is \d[.\d]*e\+\d+: .*dvc repro",
    ):
        fit.fit(params, toy, toy)


def test_a_batch_of_more_images_than_there_are_is_refused(toy):
    with pytest.raises(
        PipelineError, match=r"a batch is 301 images, but there are only 300 training images\. Lower .*dvc repro"
    ):
        fit.fit(PARAMS.model_copy(update={"batch_size": 301}), toy, toy)


def test_a_batch_that_is_too_large_for_the_memory_is_reported(toy, monkeypatch):
    """A real shortage of memory would harm the machine: the test raises TensorFlow's error itself."""

    def exhaust(*_, **__):
        raise fit.tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(fit.keras.Model, "fit", exhaust)
    with pytest.raises(PipelineError, match=r"a batch of 50 images does not fit into memory\. Lower train.batch_size"):
        fit.fit(PARAMS, toy, toy)


@pytest.mark.parametrize(
    ("steps", "size", "number"), [(705, 64, 5), (351, 128, 3), (90, 180, 2), (97, 64, 1), (4, 500, 1), (6, 64, 6)]
)
def test_the_steps_of_a_call_divide_the_steps_of_an_epoch(steps, size, number):
    assert fit.steps_per_call(steps, size) == number


def test_accuracy_and_loss_of_a_hand_made_case():
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
    accuracy, loss = fit.accuracy_and_loss(
        by_colour, Split(images, np.array([0, 1, 2]), 0, np.array(["r", "g", "b"]), "")
    )
    e = np.e
    assert accuracy == pytest.approx(2 / 3)
    expected = -np.log([e**2 / (e**2 + e + 1), e**3 / (e**3 + 2), 1 / (e + 2)]).mean()
    assert loss == pytest.approx(expected, rel=1e-6)


TWO_DEVICES = """
import json, sys
import numpy as np
from pipeline.models.keras_backend import start_keras
start_keras()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pipeline.data.splits import Split
from pipeline.data.synthetic import CLASS_NAMES, generate
from pipeline.training import devices, fit  # noqa: E402 - Keras must have been started
from pipeline.training.settings import TrainParams
devices.precision = lambda: "float32"
if sys.argv[2] == "both":
    devices.names = lambda: ["CPU:0", "CPU:1"]
images, labels = generate(300, seed=0)
toy = Split(images, labels, 0, np.array(CLASS_NAMES), "")
params = TrainParams(model=sys.argv[1], epochs=int(sys.argv[3]), batch_size=50, learning_rate=None, class_weight=None, flip=None, shift=None, cutout=None, smoothing=None, seed=0)
states = []
model, rows, _ = fit.fit(params, toy, toy, lambda state: states.append(state._replace(rows=list(state.rows))))
resumed, again, _ = fit.fit(params, toy, toy, checkpoint=states[-2])
same = again == rows and all(map(np.array_equal, resumed.get_weights(), model.get_weights()))
predicted = model.predict(images, verbose=0).argmax(1)
print(json.dumps({
    "replicas": devices.strategy().num_replicas_in_sync,
    "loss": [row["loss"] for row in rows],
    "same": same,
    "accuracy": float((predicted == labels).mean()),
    "best": max(row["validation_accuracy"] for row in rows),
}))
"""


@pytest.mark.parametrize(("name", "epochs"), [("basic", "5"), ("fast", "12")])
def test_two_devices_train_like_one_and_resume(name, epochs):
    results = {}
    for which in ("one", "both"):
        command = [sys.executable, "-c", TWO_DEVICES, name, which, epochs]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        results[which] = json.loads(done.stdout.splitlines()[-1])
    assert (results["one"]["replicas"], results["both"]["replicas"]) == (1, 2)
    assert results["both"]["same"]
    assert results["both"]["accuracy"] == pytest.approx(results["both"]["best"])
    if name == "basic":  # without batch normalization, the halves of a batch give its gradient
        np.testing.assert_allclose(results["one"]["loss"], results["both"]["loss"], rtol=0.01)
    else:
        assert results["both"]["best"] > 0.9
