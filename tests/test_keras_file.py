import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.keras_file import load_model, require_figures, save_model
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS


@pytest.fixture(scope="module")
def keras():
    return start_keras()


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
