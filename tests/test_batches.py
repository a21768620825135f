import numpy as np
import pytest

from pipeline.keras_start import start_keras
from pipeline.models import Augmentation
from pipeline.splits import Split

start_keras()

from pipeline.batches import cut_out, shift, targets, training_batches, validation_batches  # noqa: E402

NAMES = np.array(["left", "right", "none"])


def numbered(count):
    """Images whose every pixel is their own number."""
    images = np.arange(count, dtype=np.uint8).repeat(3072).reshape(count, 32, 32, 3)
    return Split(images, (np.arange(count) % 3).astype(np.uint8), 0, NAMES, "")


def order(split, size, seed, epochs):
    data = training_batches(split, size, Augmentation(), seed, epochs)
    return [images.numpy()[:, 0, 0, 0].tolist() for images, _ in data]


def test_every_image_is_seen_once_an_epoch_in_an_order_of_seed_and_epoch():
    split = numbered(12)
    first, second = order(split, 4, 1, range(1)), order(split, 4, 1, range(1, 2))
    assert order(split, 4, 1, range(2)) == first + second
    assert first != second
    assert first != order(split, 4, 2, range(1))
    for epoch in (first, second):
        assert sorted(np.concatenate(epoch)) == list(range(12))


@pytest.mark.parametrize(("count", "size", "sizes"), [(10, 4, [4, 4]), (4, 4, [4])])
def test_batches_are_whole(count, size, sizes):
    batches = order(numbered(count), size, 0, range(1))
    assert [len(batch) for batch in batches] == sizes
    assert len(set(np.concatenate(batches))) == sum(sizes)


def test_labels_stay_with_their_images():
    for images, labels in training_batches(numbered(9), 3, Augmentation(flip=True), 5, range(2)):
        assert (images.numpy()[:, 0, 0, 0] % 3 == labels.numpy().argmax(1)).all()


def test_validation_shows_every_image_in_its_order():
    ((images, labels),) = validation_batches(numbered(7))
    assert images.numpy()[:, 0, 0, 0].tolist() == list(range(7))
    assert labels.numpy().tolist() == np.eye(3)[[0, 1, 2, 0, 1, 2, 0]].tolist()


def test_smoothing_spreads_a_share_of_the_label_over_all_classes():
    np.testing.assert_allclose(targets(np.array([2, 0]), 4, 0.2), [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]])


def test_an_image_is_mirrored_every_second_epoch_a_half_of_them_from_the_first_on():
    images = np.zeros((100, 32, 32, 3), np.uint8)
    images[:, :, :16] = np.arange(1, 101)[:, None, None, None]
    split = Split(images, np.zeros(100, np.uint8), 0, NAMES, "")
    mirrored = []  # numbers of the mirrored images, an epoch each
    for shown, _ in training_batches(split, 100, Augmentation(flip=True), 0, range(4)):
        mirrored.append({int(image.max()) for image in shown.numpy() if image[0, 0, 0] == 0})
    assert mirrored[0] == mirrored[2]
    assert mirrored[1] == mirrored[3] == set(range(1, 101)) - mirrored[0]
    assert 30 < len(mirrored[0]) < 70


@pytest.mark.parametrize("mirrored", [0, 1])
def test_a_shift_moves_by_whole_pixels_within_its_reach_and_reflects_the_edge(mirrored):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    shown = shift(np.repeat(image[None], 200, 0), np.full(200, mirrored), 2, np.array([0, 1], np.int64)).numpy()
    padded = np.pad(image[:, ::-1] if mirrored else image, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    windows = {padded[i : i + 32, j : j + 32].tobytes() for i in range(5) for j in range(5)}
    assert {picture.tobytes() for picture in shown} == windows  # all 25 and no other


def test_without_reach_and_mirror_an_image_stays_as_it_is():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    assert (shift(images, np.zeros(5, np.int64), 0, np.array([3, 4], np.int64)).numpy() == images).all()


def test_cutout_hides_one_square_within_the_image_or_over_its_edge():
    shown = cut_out(np.full((50, 32, 32, 3), 7, np.uint8), 8, np.array([0, 0], np.int64)).numpy()
    assert set(np.unique(shown)) == {7, 128}
    corners = set()
    for image in shown:
        rows, columns = np.nonzero(image[:, :, 0] == 128)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height * width == len(rows)  # it is whole
        assert 4 <= height <= 8
        assert 4 <= width <= 8
        corners.add((rows[0], columns[0]))
    assert len(corners) > 40
