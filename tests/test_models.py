import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS, load_model, require_figures, save_model


@pytest.fixture(scope="module")
def keras():
    return start_keras()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_bytes_and_gives_probabilities(keras, name):
    model = NETWORKS[name].build(7)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    scores = model.predict(images, verbose=0)
    assert (model.name, model.inputs[0].dtype, model.inputs[0].name, scores.shape, scores.dtype) == (
        name,
        "uint8",
        "image",
        (3, 7),
        np.float32,
    )
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)


def test_basic_is_the_network_of_the_tutorial(keras):
    model = NETWORKS["basic"].build(10)
    assert model.count_params() == 122_570
    kinds = "InputLayer Rescaling Conv2D MaxPooling2D Conv2D MaxPooling2D Conv2D Flatten Dense Dense"
    assert [type(layer).__name__ for layer in model._layers] == kinds.split()
    assert [layer.filters for layer in model.layers if type(layer).__name__ == "Conv2D"] == [32, 64, 64]


def test_pixels_are_scaled_to_0_to_1_inside_the_model(keras):
    model = NETWORKS["basic"].build(10)
    scaled = keras.Model(model.inputs, model.layers[0].output).predict(
        np.full((1, 32, 32, 3), 255, np.uint8), verbose=0
    )
    assert (scaled.min(), scaled.max()) == (1, 1)


def test_equal_models_give_equal_files_that_load(keras, tmp_path):
    for name in ("a.keras", "b.keras"):
        keras.utils.clear_session()
        keras.utils.set_random_seed(3)
        model = NETWORKS["basic"].build(10)
        save_model(model, tmp_path / name, {"validation_accuracy": 0.5})
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]
    loaded = load_model(tmp_path / "a.keras")
    assert all(map(np.array_equal, loaded.get_weights(), model.get_weights()))


def test_a_model_is_told_from_another_trainings_figures(keras, tmp_path):
    path = tmp_path / "m.keras"
    save_model(NETWORKS["basic"].build(3), path, {"validation_accuracy": 0.5})
    require_figures(path, {"validation_accuracy": 0.5})
    with pytest.raises(
        PipelineError, match=r"m.keras is not the model that train.json is about: .*0.5.*0.6.*dvc repro"
    ):
        require_figures(path, {"validation_accuracy": 0.6})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(PipelineError, match=r"cannot read the model .*m.keras.*dvc repro"):
        require_figures(path, {"validation_accuracy": 0.5})


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_an_absent_or_damaged_model_is_told(tmp_path, content):
    if content:
        (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(PipelineError, match=r"cannot read the model .*model.keras.*dvc repro"):
        load_model(tmp_path / "model.keras")
