import numpy as np
import pytest

from pipeline.data.synthetic import generate
from pipeline.models import whitening
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS

keras = start_keras()


@pytest.fixture(scope="module")
def images():
    return generate(300, seed=0)[0]


def first_outputs(model, images):
    """Outputs of the first convolution, one row per patch."""
    keras.config.set_dtype_policy("float32")
    layer = model.get_layer(whitening.NAME)
    return keras.Model(model.inputs, layer.output).predict(images, verbose=0).reshape(-1, whitening.FILTERS)


def test_the_outputs_on_training_images_are_uncorrelated_and_of_one_size(images):
    keras.config.set_dtype_policy("float32")
    model = NETWORKS["fast"].build(10, 32)
    whitening.whiten(model, images)
    outputs = first_outputs(model, images)
    half = whitening.FILTERS // 2
    np.testing.assert_allclose(outputs[:, half:], -outputs[:, :half], atol=1e-5)
    products = outputs[:, :half].T @ outputs[:, :half] / len(outputs)
    np.testing.assert_allclose(products, np.diag(products.diagonal()), atol=2e-3)
    assert products.diagonal().max() == pytest.approx(1, abs=0.01)
    assert products.diagonal().min() > 0.3  # a direction in which patches hardly differ is not blown up


def test_the_kernel_depends_on_the_images_and_not_on_the_seed(images):
    found = []
    for seed, chosen in ((0, images), (1, images), (0, images[::2])):
        keras.utils.set_random_seed(seed)
        model = NETWORKS["fast"].build(10, 32)
        whitening.whiten(model, chosen)
        found.append(model.get_layer(whitening.NAME).kernel.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_many_images_are_sampled_over_the_whole_split(images, monkeypatch):
    monkeypatch.setattr(whitening, "SAMPLE", 4)
    several, chosen = NETWORKS["fast"].build(10, 32), NETWORKS["fast"].build(10, 32)
    whitening.whiten(several, images[:10])
    whitening.whiten(chosen, images[[0, 3, 6, 9]])
    kernels = [model.get_layer(whitening.NAME).kernel.numpy() for model in (several, chosen)]
    np.testing.assert_array_equal(*kernels)


def test_equal_pixels_give_a_finite_kernel():
    assert np.isfinite(whitening.kernel([np.zeros((3, 16, 16, 3), np.float32)])).all()


def test_a_network_without_such_a_convolution_stays_as_it_is(images):
    model = NETWORKS["basic"].build(10, 32)
    before = model.get_weights()
    whitening.whiten(model, images)
    assert all(map(np.array_equal, before, model.get_weights()))
