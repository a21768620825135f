import json
import os
import signal
import time

import numpy as np
import pytest
from hostile_models import COLOURS, HOSTILE, STRICT, colours, external, loop

from pipeline.onnx import isolated
from pipeline.onnx.isolated import IsolatedModel, UnusableModel
from pipeline.onnx.session import open_session, predict_probabilities

IMAGES = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), np.uint8)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(isolated, "SECONDS", 2.0)
    monkeypatch.setattr(isolated, "SECONDS_PER_IMAGE", 0.02)


@pytest.mark.parametrize("strict", [False, True])
def test_the_outputs_are_those_of_onnx_runtime(tmp_path, strict):
    (tmp_path / "model.onnx").write_bytes(colours())
    expected = predict_probabilities(open_session(tmp_path / "model.onnx"), IMAGES, 64)
    with IsolatedModel(colours(), 3, strict) as model:
        assert model.class_names == json.dumps(COLOURS)
        for _ in range(2):
            np.testing.assert_array_equal(model.predict(IMAGES), expected)


@pytest.mark.parametrize("side", [16, 48, 128])
def test_the_side_is_that_of_the_models_input(side):
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), np.uint8)
    with IsolatedModel(colours(side=side), 3) as model:
        assert model.side == side
        np.testing.assert_array_equal(
            model.predict(images), predict_probabilities(open_session(colours(side=side)), images, 5)
        )
        with pytest.raises(UnusableModel, match=rf"its images have {side} x {side} pixels, given were \(32, 32, 3\)"):
            model.predict(IMAGES)


def test_many_images_are_sent_in_several_messages(monkeypatch):
    with IsolatedModel(colours(), 3) as model:
        expected = model.predict(IMAGES)
        monkeypatch.setattr(isolated, "MESSAGE", 7 * IMAGES[0].nbytes)
        np.testing.assert_array_equal(model.predict(IMAGES), expected)


@pytest.mark.parametrize("name", [name for name in HOSTILE if "names of classes" not in name])
@pytest.mark.parametrize("strict", [False, True])
def test_a_hostile_file_is_refused(name, strict):
    content, reason = HOSTILE[name]
    with (
        pytest.raises(UnusableModel, match=reason if strict else ".") as caught,
        IsolatedModel(content, 3, strict) as model,
    ):
        model.predict(IMAGES)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", [name for name in STRICT if name != "a constant output"])
def test_only_strict_refuses_operators_that_are_not_needed(name):
    content, reason = STRICT[name]
    with pytest.raises(UnusableModel, match=reason):
        IsolatedModel(content, 3, strict=True)


def test_an_endless_loop_ends_after_the_time_that_is_allowed():
    with IsolatedModel(colours(loop(2**62)), 3) as model, pytest.raises(UnusableModel, match="it needs too much time"):
        model.predict(IMAGES)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{}/weights.bin"])
def test_no_other_file_is_opened(tmp_path, monkeypatch, location):
    """ONNX Runtime itself opens external data below the working folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for place in (folder, tmp_path):
        (place / "weights.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    content = colours(external(location.format(folder)))
    if location == "weights.bin":
        open_session(content)
    with pytest.raises(UnusableModel, match="External data path validation failed"):
        IsolatedModel(content, 3)


def test_waiting_for_images_takes_no_time_of_the_model(monkeypatch):
    monkeypatch.setattr(isolated, "SECONDS", 0.5)
    with IsolatedModel(colours(), 3) as model:
        time.sleep(0.8)
        assert model.predict(IMAGES[:1]).shape == (1, 3)


def test_its_process_ends_with_it():
    model = IsolatedModel(colours(), 3)
    model.close()
    with pytest.raises(ProcessLookupError):
        os.kill(model._process.pid, 0)


def test_a_process_that_is_killed_is_an_unusable_model():
    with IsolatedModel(colours(), 3) as model:
        os.kill(model._process.pid, signal.SIGKILL)
        with pytest.raises(UnusableModel, match="its process ends with -9"):
            model.predict(IMAGES)
