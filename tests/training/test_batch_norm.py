import numpy as np
import pytest

from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS

keras = start_keras()

from pipeline.training.batch_norm import FusedBatchNormalization, with_fused_normalization  # noqa: E402


@pytest.mark.parametrize("settings", [{"scale": False}, {}, {"center": False, "momentum": 0.5}])
def test_it_normalizes_and_updates_statistics_as_keras_does(settings):
    keras.config.set_dtype_policy("float32")  # a training that failed in an earlier test leaves its own
    inputs = np.random.default_rng(0).normal(3, 2, (50, 4, 4, 6)).astype(np.float32)
    ours, theirs = FusedBatchNormalization(**settings), keras.layers.BatchNormalization(**settings)
    for _ in range(3):
        np.testing.assert_allclose(ours(inputs, training=True), theirs(inputs, training=True), atol=1e-4)
    np.testing.assert_allclose(ours(inputs), theirs(inputs), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-4)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=2e-3)  # unbiased


@pytest.mark.parametrize("name", NETWORKS)
def test_the_faster_copy_predicts_the_same(name):
    model = NETWORKS[name].build(10, 32)
    faster = with_fused_normalization(model)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model.predict(images, verbose=0), faster.predict(images, verbose=0))
    classes = {type(layer) for layer in faster.layers}
    assert keras.layers.BatchNormalization not in classes
    assert (FusedBatchNormalization in classes) == (name != "basic")


@pytest.mark.parametrize(
    ("shape", "settings"), [((5,), {}), ((4, 4, 3), {"axis": 1}), ((4, 4, 3), {"synchronized": True})]
)
def test_a_layer_that_the_fused_operation_cannot_replace_stays(shape, settings):
    layers = keras.layers
    model = keras.Sequential([layers.Input(shape), layers.BatchNormalization(**settings)])
    assert type(with_fused_normalization(model).layers[-1]) is layers.BatchNormalization
