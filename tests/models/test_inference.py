import numpy as np
import pytest

from pipeline.models import inference
from pipeline.models.inference import predict
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS


class Counter:
    """Stands for a model: remembers the images and the batch size of each call."""

    def __init__(self):
        self.calls = []

    def predict(self, images, batch_size, verbose):
        self.calls.append((type(images), len(images), batch_size))
        return images.mean((1, 2, 3))


@pytest.mark.parametrize(("side", "calls"), [(32, [(8, 4), (3, 4)]), (64, [(2, 1)] * 5 + [(1, 1)])])
def test_images_are_read_in_blocks_of_whole_batches(monkeypatch, side, calls):
    monkeypatch.setattr(inference, "BLOCK", 9 * 32 * 32 * 3)
    images, model = np.random.default_rng(0).integers(0, 256, (11, side, side, 3), np.uint8), Counter()
    np.testing.assert_array_equal(predict(model, images, 4), images.mean((1, 2, 3)))
    assert model.calls == [(np.ndarray, *call) for call in calls]


def test_memory_mapped_images_have_the_same_output(tmp_path, monkeypatch):
    start_keras()
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    model = NETWORKS["basic"].build(3, 32)
    expected = model.predict(images, batch_size=4, verbose=0)
    monkeypatch.setattr(inference, "BLOCK", 9 * images[0].nbytes)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(predict(model, mapped, 4), expected)
