"""The translation of networks to PyTorch, compared with Keras."""

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")


@pytest.fixture(scope="module")
def keras():
    return start_keras()


def probabilities(model, images):
    from benchmarks.torch_network import TorchNetwork

    with torch.no_grad():
        return TorchNetwork(model).eval()(torch.from_numpy(images)).exp().numpy()


def with_random_weights(model):
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            low = 0.5 if "variance" in variable.name else -0.1
            variable.assign(random.uniform(low, low + 0.2, variable.shape))
    return model


def images_of(model):
    return np.random.default_rng(1).integers(0, 256, (3, *model.inputs[0].shape[1:]), np.uint8)


def require_equal(model):
    images = images_of(model)
    expected = with_random_weights(model).predict(images, verbose=0)
    assert expected.std() > 0.001
    np.testing.assert_allclose(probabilities(model, images), expected, atol=1e-4)


@pytest.mark.parametrize("side", [17, 32])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_the_same_probabilities(keras, name, side):
    require_equal(NETWORKS[name].build(7, side))


LAYERS = {
    "even kernel, padding same": lambda layers: [layers.Conv2D(4, 2, padding="same")],
    "strides, padding same": lambda layers: [layers.Conv2D(4, 4, 3, padding="same")],
    "strides, odd kernel": lambda layers: [layers.Conv2D(4, 3, 2, padding="same", activation="silu")],
    "dilation and groups": lambda layers: [layers.Conv2D(6, 3, padding="same", dilation_rate=2, groups=3)],
    "uneven kernel": lambda layers: [layers.Conv2D(4, (1, 3), (2, 1), padding="valid", activation="gelu")],
    "rescaling per channel": lambda layers: [layers.Rescaling([1.0, 0.5, 0.1], [0.0, 1.0, 2.0])],
    "overlapping pools": lambda layers: [layers.MaxPooling2D(3, 2), layers.AveragePooling2D(2, 1)],
    "normalization of vectors": lambda layers: [layers.Flatten(), layers.BatchNormalization(center=False)],
    "activation": lambda layers: [layers.Activation("relu")],
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_option_of_a_layer_is_translated(keras, name):
    layers = keras.layers
    added = [*LAYERS[name](layers), layers.Flatten(), layers.Dense(5, activation="softmax")]
    require_equal(
        keras.Sequential([layers.Input((9, 8, 3), dtype="uint8"), layers.Rescaling(1 / 255, offset=-0.5), *added])
    )


def test_frozen_weights_stay_frozen(keras):
    from benchmarks.torch_network import TorchNetwork

    layers = keras.layers
    frozen = layers.Conv2D(4, 2, trainable=False)
    parts = [layers.Conv2D(4, 2), layers.BatchNormalization(scale=False), frozen, layers.Flatten()]
    model = keras.Sequential([layers.Input((8, 8, 3)), *parts, layers.Dense(5, use_bias=False, activation="softmax")])
    parts[0].kernel.trainable = False
    found = {name: weight.requires_grad for name, weight in TorchNetwork(model).named_parameters()}
    assert found == {
        "layers.0.0.weight": False,
        "layers.0.0.bias": True,
        "layers.1.weight": False,
        "layers.1.bias": True,
        "layers.2.0.weight": False,
        "layers.2.0.bias": False,
        "layers.4.0.weight": True,
    }


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        (
            lambda layers: layers.LayerNormalization(name="mine"),
            r"`mine` is a LayerNormalization.*expected one of .*Conv2D",
        ),
        (
            lambda layers: layers.Activation("tanh", name="mine"),
            r"`mine` has the activation tanh.*expected one of linear",
        ),
        (lambda layers: layers.MaxPooling2D(3, padding="same", name="mine"), r"`mine` pads its input of \(8, 8\)"),
    ],
)
def test_an_unknown_layer_is_named_with_the_remedy(keras, unknown, message):
    from benchmarks.torch_network import TorchNetwork

    layers = keras.layers
    end = [layers.Flatten(), layers.Dense(5, activation="softmax")]
    model = keras.Sequential([layers.Input((8, 8, 3), dtype="uint8"), unknown(layers), *end])
    with pytest.raises(PipelineError, match=rf"{message}.*Add it to .*benchmarks/torch_network.py"):
        TorchNetwork(model)
