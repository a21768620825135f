import numpy as np
import pytest

from pipeline.data.large_arrays import batch_of, blocks, images_per_block


@pytest.mark.parametrize(("side", "expected"), [(16, 2000), (32, 500), (48, 222), (128, 31), (1024, 1)])
def test_a_block_has_the_given_number_of_bytes_and_one_image_at_least(side, expected):
    assert images_per_block(np.empty((0, side, side, 3), np.uint8), 500 * 32 * 32 * 3) == expected


def test_blocks_have_all_images_in_order():
    images = np.arange(7 * 4 * 4 * 3, dtype=np.uint8).reshape(7, 4, 4, 3)
    parts = list(blocks(images, 3 * 48))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert np.array_equal(np.concatenate(parts), images)


@pytest.mark.parametrize(("size", "side", "images"), [(64, 32, 64), (64, 16, 64), (500, 128, 31), (2, 128, 1)])
def test_batches_of_larger_images_are_smaller_with_the_same_bytes(size, side, images):
    assert batch_of(size, np.zeros((3, side, side, 3), np.uint8)) == images
