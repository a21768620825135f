import numpy as np
import pytest

from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS

keras = start_keras()

from pipeline.normalization import FusedBatchNormalization, with_fused_normalization  # noqa: E402


@pytest.mark.parametrize("settings", [{"scale": False}, {}, {"center": False, "momentum": 0.5}])
def test_it_normalises_and_remembers_as_keras_does(settings):
    inputs = np.random.default_rng(0).normal(3, 2, (50, 4, 4, 6)).astype(np.float32)
    ours, theirs = FusedBatchNormalization(**settings), keras.layers.BatchNormalization(**settings)
    for _ in range(3):
        np.testing.assert_allclose(ours(inputs, training=True), theirs(inputs, training=True), atol=1e-4)
    np.testing.assert_allclose(ours(inputs), theirs(inputs), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-4)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=2e-3)  # unbiased


@pytest.mark.parametrize("name", NETWORKS)
def test_the_faster_copy_gives_the_same(name):
    model = NETWORKS[name].build(10)
    faster = with_fused_normalization(model)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model.predict(images, verbose=0), faster.predict(images, verbose=0))
    kinds = {type(layer) for layer in faster.layers}
    assert keras.layers.BatchNormalization not in kinds
    assert (FusedBatchNormalization in kinds) == (name != "basic")


@pytest.mark.parametrize(
    ("shape", "settings"), [((5,), {}), ((4, 4, 3), {"axis": 1}), ((4, 4, 3), {"synchronized": True})]
)
def test_what_the_fused_operation_cannot_do_stays_with_keras(shape, settings):
    layers = keras.layers
    model = keras.Sequential([layers.Input(shape), layers.BatchNormalization(**settings)])
    assert type(with_fused_normalization(model).layers[-1]) is layers.BatchNormalization
