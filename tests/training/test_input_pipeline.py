import numpy as np
import pytest

from pipeline.data.splits import Split
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import Augmentation

start_keras()

from pipeline.training import input_pipeline  # noqa: E402 - Keras must have been started

NAMES = np.array(["left", "right", "none"])


def numbered(count):
    """Images whose pixels all have the image's number as value."""
    images = np.arange(count, dtype=np.uint8).repeat(3072).reshape(count, 32, 32, 3)
    return Split(images, (np.arange(count) % 3).astype(np.uint8), 0, NAMES, "")


def order(split, size, seed, epochs):
    data = input_pipeline.training_batches(split, size, Augmentation(), seed, epochs)
    return [images.numpy()[:, 0, 0, 0].tolist() for images, _ in data]


def test_every_image_is_in_an_epoch_once_and_the_order_depends_on_seed_and_epoch():
    split = numbered(12)
    first, second = order(split, 4, 1, range(1)), order(split, 4, 1, range(1, 2))
    assert order(split, 4, 1, range(2)) == first + second
    assert first != second
    assert first != order(split, 4, 2, range(1))
    for epoch in (first, second):
        assert sorted(np.concatenate(epoch)) == list(range(12))


@pytest.mark.parametrize(("count", "size", "sizes"), [(10, 4, [4, 4]), (4, 4, [4])])
def test_batches_are_full(count, size, sizes):
    batches = order(numbered(count), size, 0, range(1))
    assert [len(batch) for batch in batches] == sizes
    assert len(set(np.concatenate(batches))) == sum(sizes)


def test_labels_stay_with_their_images():
    for images, labels in input_pipeline.training_batches(numbered(9), 3, Augmentation(flip=True), 5, range(2)):
        assert (images.numpy()[:, 0, 0, 0] % 3 == labels.numpy().argmax(1)).all()


def test_validation_has_every_image_in_the_order_of_the_split():
    ((images, labels),) = input_pipeline.validation_batches(numbered(7))
    assert images.numpy()[:, 0, 0, 0].tolist() == list(range(7))
    assert labels.numpy().tolist() == np.eye(3)[[0, 1, 2, 0, 1, 2, 0]].tolist()


@pytest.fixture
def mapped(tmp_path):
    """A split of noise, in memory and memory-mapped."""
    images = np.random.default_rng(0).integers(0, 256, (50, 16, 16, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    split = Split(images, (np.arange(50) % 3).astype(np.uint16), 0, NAMES, "")
    return split, split._replace(images=np.load(tmp_path / "images.npy", mmap_mode="r"))


def test_batches_of_a_memory_mapped_split_are_those_in_memory(mapped, monkeypatch):
    monkeypatch.setattr(input_pipeline, "EVALUATION_BATCH", 20)
    augmentation = Augmentation(True, shift=4, cutout=12, smoothing=0.1)
    for name, arguments in {
        "training_batches": (8, augmentation, 3, range(1, 3)),
        "validation_batches": (),
    }.items():
        one, other = (list(getattr(input_pipeline, name)(split, *arguments)) for split in mapped)
        assert len(one) == (12 if arguments else 3)
        for (images, labels), (same_images, same_labels) in zip(one, other, strict=True):
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(labels, same_labels)
            assert images.shape == same_images.shape


def test_a_memory_mapped_split_is_read_batch_by_batch(mapped, monkeypatch):
    """Not a copy: what is written into the file later is what a batch contains."""
    _, split = mapped
    batches = input_pipeline.validation_batches(split)
    written = np.load(split.images.filename, mmap_mode="r+")
    written[:] = 7
    written.flush()
    ((images, _),) = batches
    assert (images.numpy() == 7).all()


def test_smoothing_spreads_a_share_of_the_label_over_all_classes():
    np.testing.assert_allclose(
        input_pipeline.targets(np.array([2, 0]), 4, 0.2), [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]
    )


def test_an_image_is_flipped_every_second_epoch_and_half_of_them_in_the_first():
    images = np.zeros((100, 32, 32, 3), np.uint8)
    images[:, :, :16] = np.arange(1, 101)[:, None, None, None]
    split = Split(images, np.zeros(100, np.uint8), 0, NAMES, "")
    flipped = []  # numbers of the flipped images, for each epoch
    for shown, _ in input_pipeline.training_batches(split, 100, Augmentation(flip=True), 0, range(4)):
        flipped.append({int(image.max()) for image in shown.numpy() if image[0, 0, 0] == 0})
    assert flipped[0] == flipped[2]
    assert flipped[1] == flipped[3] == set(range(1, 101)) - flipped[0]
    assert 30 < len(flipped[0]) < 70


@pytest.mark.parametrize("flipped", [0, 1])
def test_a_shift_is_within_its_limit_and_reflects_the_edge(flipped):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    shown = input_pipeline.flip_and_shift(
        np.repeat(image[None], 200, 0), np.full(200, flipped), 2, np.array([0, 1], np.int64)
    ).numpy()
    padded = np.pad(image[:, ::-1] if flipped else image, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    windows = {padded[i : i + 32, j : j + 32].tobytes() for i in range(5) for j in range(5)}
    assert {each.tobytes() for each in shown} == windows  # all 25 and no other


def test_larger_images_are_shifted_and_cut_in_proportion():
    """A shift by up to 1 pixel of 32 is one by up to 2 of 64."""
    image = np.random.default_rng(0).integers(0, 128, (64, 64, 3), np.uint8)
    split = Split(np.repeat(image[None], 200, 0), np.zeros(200, np.uint8), 0, NAMES, "")
    ((shifted, _),) = input_pipeline.training_batches(split, 200, Augmentation(shift=1), 0, range(1))
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    windows = {padded[i : i + 64, j : j + 64].tobytes() for i in range(5) for j in range(5)}
    assert {each.tobytes() for each in shifted.numpy()} == windows
    ((cut, _),) = input_pipeline.training_batches(split, 200, Augmentation(cutout=4), 0, range(1))
    assert (cut.numpy() == 128).all(3).sum((1, 2)).max() == 8 * 8


def test_without_limit_and_flip_an_image_stays_as_it_is():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    assert (
        input_pipeline.flip_and_shift(images, np.zeros(5, np.int64), 0, np.array([3, 4], np.int64)).numpy() == images
    ).all()


def test_cutout_fills_one_square_within_the_image_or_over_its_edge():
    shown = input_pipeline.cut_out(np.full((50, 32, 32, 3), 7, np.uint8), 8, np.array([0, 0], np.int64)).numpy()
    assert set(np.unique(shown)) == {7, 128}
    corners = set()
    for image in shown:
        rows, columns = np.nonzero(image[:, :, 0] == 128)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height * width == len(rows)  # it is one rectangle
        assert 4 <= height <= 8
        assert 4 <= width <= 8
        corners.add((rows[0], columns[0]))
    assert len(corners) > 40
