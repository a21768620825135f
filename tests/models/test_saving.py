import zipfile

import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.models.saving import TrainingRecord, load_model, read_input_shape, read_training_record, save_model

RECORD = TrainingRecord(
    figures={"validation_accuracy": 0.1 + 0.2, "best_epoch": 2},
    data={"archive_sha256": "ab" * 32, "splits_sha256": "cd" * 32},
    settings={
        "train.model": "basic",
        "train.flip": False,
        "download.name": None,
        "validate.channel_means": [0.5, 0.25],
    },
    epochs=[{"epoch": 1, "loss": 1e-7}, {"epoch": 2, "loss": 1 / 3}],
)


@pytest.fixture(scope="module")
def keras():
    return start_keras()


def test_equal_models_give_equal_files_that_load(keras, tmp_path):
    for name in ("a.keras", "b.keras"):
        keras.utils.clear_session()
        keras.utils.set_random_seed(3)
        model = NETWORKS["basic"].build(10, 32)
        save_model(model, tmp_path / name, RECORD)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]
    loaded = load_model(tmp_path / "a.keras")
    assert all(map(np.array_equal, loaded.get_weights(), model.get_weights()))


def test_the_training_record_is_read_as_it_was_saved(keras, tmp_path):
    path = tmp_path / "m.keras"
    save_model(NETWORKS["basic"].build(3, 32), path, RECORD)
    assert read_training_record(path) == RECORD
    load_model(path)  # Keras ignores it


def test_the_input_shape_is_that_of_the_images(keras, tmp_path):
    layers = keras.layers
    sequential = keras.Sequential([layers.Input((48, 48, 3), dtype="uint8"), layers.Flatten()])
    image = layers.Input((16, 16, 3), dtype="uint8")
    functional = keras.Model(image, layers.Flatten()(image))
    shapes = []
    for model in (sequential, functional):
        save_model(model, tmp_path / "m.keras", RECORD)
        shapes.append(read_input_shape(tmp_path / "m.keras"))
    assert shapes == [(48, 48, 3), (16, 16, 3)]


@pytest.mark.parametrize(
    "config", ["{}", "[]", '{"config": {"layers": []}}', '{"config": {"layers": [{"config": {}}]}}']
)
def test_a_model_without_an_input_layer_is_refused(tmp_path, config):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", config)
    with pytest.raises(PipelineError, match=r"cannot read the model .*m.keras: its first layer has no input shape"):
        read_input_shape(tmp_path / "m.keras")


@pytest.mark.parametrize("content", [None, b"", b"no zip", "half"])
def test_a_missing_or_damaged_model_is_reported(keras, tmp_path, content):
    path = tmp_path / "model.keras"
    save_model(NETWORKS["basic"].build(3, 32), path, RECORD)
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    for read in (load_model, read_training_record, read_input_shape):
        with pytest.raises(PipelineError, match=r"cannot read the model .*model.keras: .*dvc repro"):
            read(path)


@pytest.mark.parametrize("metadata", ["{}", '{"training": {"figures": {}}}', '{"training": 1}', "[]"])
def test_a_model_that_another_program_saved_is_refused(tmp_path, metadata):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("metadata.json", metadata)
    with pytest.raises(PipelineError, match=r"cannot read the model .*m.keras: it has no training record. `dvc repro`"):
        read_training_record(tmp_path / "m.keras")
