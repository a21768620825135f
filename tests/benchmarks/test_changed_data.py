import numpy as np

from benchmarks.changed_data import DAMAGED, HARMLESS, change_images, change_labels, data_sets, flip, swap
from pipeline.data.archive import Archive
from pipeline.data.synthetic import CLASS_NAMES, generate

DATA = Archive(*generate(500, seed=1), *generate(100, seed=2), list(CLASS_NAMES))


def made(data_set):
    return data_set.make(DATA, np.random.default_rng(0))


def test_there_are_twenty_damaged_and_five_harmless_data_sets_and_each_can_be_made():
    assert (len(DAMAGED), len(HARMLESS)) == (20, 5)
    for _, name, data_set in data_sets():
        data = made(data_set)
        assert data.train_images.dtype == np.uint8, name
        assert data.train_labels.dtype == np.uint8, name
        assert len(data.train_images) == len(data.train_labels)
        is_same = all(np.array_equal(one, other) for one, other in zip(data[:4], DATA[:4], strict=True))
        assert is_same == (name == "another split seed"), name


def test_the_original_data_does_not_change():
    before = [array.copy() for array in DATA[:4]]
    for _, _, data_set in data_sets():
        made(data_set)
    for one, other in zip(before, DATA[:4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_a_share_of_the_images_is_changed():
    data = made(change_images(lambda images, _: 255 - images, 0.2))
    is_changed = (data.train_images != DATA.train_images).any((1, 2, 3))
    assert 0.14 < is_changed.mean() < 0.26


def test_labels_are_flipped_to_other_classes_and_swapped_in_both_directions():
    flipped = made(change_labels(flip(0.5))).train_labels
    assert 0.4 < (flipped != DATA.train_labels).mean() < 0.6
    swapped = swap(3, 5)(np.array([3, 5, 1], np.uint8), np.random.default_rng(0))
    assert swapped.tolist() == [5, 3, 1]
