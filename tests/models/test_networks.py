import numpy as np
import pytest

from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS


@pytest.fixture(scope="module")
def keras():
    return start_keras()


@pytest.mark.parametrize("side", [16, 17, 18, 32, 48, 64, 128])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_uint8_images_of_its_side_and_returns_probabilities(keras, name, side):
    model = NETWORKS[name].build(7, side)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    probabilities = model.predict(images, verbose=0)
    assert (model.name, model.inputs[0].dtype, model.inputs[0].name) == (name, "uint8", "image")
    assert (probabilities.shape, probabilities.dtype) == ((3, 7), np.float32)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


def test_basic_is_the_network_of_the_tutorial(keras):
    model = NETWORKS["basic"].build(10, 32)
    assert model.count_params() == 122_570
    kinds = "InputLayer Rescaling Conv2D MaxPooling2D Conv2D MaxPooling2D Conv2D Flatten Dense Dense"
    assert [type(layer).__name__ for layer in model._layers] == kinds.split()
    assert [layer.filters for layer in model.layers if type(layer).__name__ == "Conv2D"] == [32, 64, 64]


@pytest.mark.parametrize(("side", "padding"), [(17, "same"), (18, "valid")])
def test_basic_pads_its_last_map_only_where_it_is_too_small(keras, side, padding):
    paddings = [layer.padding for layer in NETWORKS["basic"].build(10, side).layers if hasattr(layer, "kernel_size")]
    assert paddings == ["valid", "valid", padding]


@pytest.mark.parametrize(
    ("side", "shift", "cutout"), [(16, 2, 5), (32, 4, 10), (48, 6, 15), (50, 6, 16), (128, 16, 40)]
)
def test_shift_and_cutout_are_the_same_share_of_every_side(side, shift, cutout):
    augmentation = NETWORKS["best"].augmentation
    assert augmentation.scaled_to(side) == augmentation._replace(shift=shift, cutout=cutout)


def test_pixels_are_scaled_to_0_to_1_inside_the_model(keras):
    model = NETWORKS["basic"].build(10, 32)
    scaled = keras.Model(model.inputs, model.layers[0].output).predict(
        np.full((1, 32, 32, 3), 255, np.uint8), verbose=0
    )
    assert (scaled.min(), scaled.max()) == (1, 1)


@pytest.mark.parametrize(("name", "weights"), [("fast", 843_392), ("accurate", 3_152_864), ("best", 9_921_824)])
def test_a_network_has_the_weights_that_its_docstring_says(keras, name, weights):
    assert NETWORKS[name].build(10, 32).count_params() == weights
    assert f"{weights:,} weights for 10 classes" in NETWORKS[name].build.__doc__


@pytest.mark.parametrize("name", ["fast", "accurate", "best"])
def test_3x3_convolutions_start_as_copies_of_their_input(keras, name):
    kernels = [
        layer.kernel.numpy()
        for layer in NETWORKS[name].build(10, 32).layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    assert len(kernels) >= 4
    for kernel in kernels:
        channels = kernel.shape[2]
        expected = np.zeros((3, 3, channels, channels))
        expected[1, 1] = np.eye(channels)
        np.testing.assert_array_equal(kernel[..., :channels], expected)
        assert channels == kernel.shape[3] or kernel[..., channels:].std() > 0


@pytest.fixture(params=["accurate", "best"])
def trained_and_finished(keras, request):
    keras.utils.set_random_seed(0)
    model = NETWORKS[request.param].build(10, 32)
    assert NETWORKS[request.param].mirrored
    return model, NETWORKS[request.param].finish(model)


def test_a_mirrored_network_takes_the_mean_of_the_logits_of_image_and_mirror_image(trained_and_finished):
    model, finished = trained_and_finished
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    logits = [np.log(model.predict(each, verbose=0)) for each in (images, images[:, :, ::-1])]
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    powers = np.exp(np.mean(logits, axis=0))
    expected = powers / powers.sum(1, keepdims=True)
    for size in (1, 2, 5):
        np.testing.assert_allclose(finished.predict(images, batch_size=size, verbose=0), expected, atol=1e-5)
    np.testing.assert_allclose(finished.predict(images[:, :, ::-1], verbose=0), expected, atol=1e-5)


def test_a_mirrored_network_has_the_weights_and_the_interface_of_the_trained_one(trained_and_finished):
    model, finished = trained_and_finished
    assert all(map(np.array_equal, model.get_weights(), finished.get_weights()))
    assert (finished.name, finished.inputs[0].name, finished.inputs[0].dtype) == (model.name, "image", "uint8")
    assert finished.layers[-1].name == "probabilities"


@pytest.mark.parametrize("name", ["basic", "fast"])
def test_the_other_networks_are_finished_as_they_are(keras, name):
    model = NETWORKS[name].build(10, 32)
    assert NETWORKS[name].finish(model) is model
