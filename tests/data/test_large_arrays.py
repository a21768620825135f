import errno
import os
import resource

import numpy as np
import pytest
from archives import contents, write

from pipeline.data import large_arrays
from pipeline.data.archive import read_archive
from pipeline.data.large_arrays import batch_of, blocks, chosen, images_per_block, mapped_member, new_images
from pipeline.data.splits import read_split
from pipeline.prepare import PrepareParams, prepare


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


def test_memory_mapped_images_make_the_same_splits_and_leave_no_file(archive, tmp_path, monkeypatch):
    params = PrepareParams(validation_images=50, seed=0)
    names = ("train.npz", "validation.npz", "test.npz", "sheet.png")
    prepare(params, archive, *(tmp_path / "a" / name for name in names))
    in_memory = read_split(tmp_path / "a/train.npz")
    beside = set(archive.parent.iterdir())
    monkeypatch.setattr(large_arrays, "LIMIT", 100_000)
    prepare(params, archive, *(tmp_path / "b" / name for name in names))
    assert [(tmp_path / "a" / name).read_bytes() for name in names] == [
        (tmp_path / "b" / name).read_bytes() for name in names
    ]
    assert set(archive.parent.iterdir()) == beside
    mapped = read_split(tmp_path / "b/train.npz")
    assert isinstance(mapped.images, np.memmap)
    assert not mapped.images.flags.writeable
    for one, other in zip(in_memory, mapped, strict=True):
        assert np.array_equal(one, other)


def test_an_archive_is_memory_mapped_batch_by_batch(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar.gz", contents(batches=5, rows=3))
    in_memory = read_archive(path)
    monkeypatch.setattr(large_arrays, "LIMIT", 4 * 3 * 3072)  # the last two batches are on disk, and all images
    mapped = read_archive(path)
    assert isinstance(mapped.train_images, np.memmap)
    assert np.array_equal(mapped.train_images, in_memory.train_images)
    assert np.array_equal(mapped.test_images, in_memory.test_images)
    assert list(tmp_path.iterdir()) == [path]


def test_chosen_images_are_copied_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(large_arrays, "BLOCK", 2)
    images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 2, 2, 3)
    mask = np.array([1, 0, 1, 1, 1, 0, 1], bool)
    assert np.array_equal(chosen(images, mask, tmp_path), images[mask])


def test_a_full_disk_is_an_error_before_anything_is_written_to_the_images(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))  # no file may be larger, as on a full disk
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            new_images((1000, 32, 32, 3), tmp_path, limit=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.uint16), np.asfortranarray(np.zeros((3, 4), np.uint8))], ids=["uint16", "Fortran order"]
)
def test_only_a_uint8_array_is_memory_mapped(tmp_path, array):
    np.savez(tmp_path / "a.npz", images=array)
    with pytest.raises(ValueError, match=r"images.npy is .* expected was uint8"):
        mapped_member(tmp_path / "a.npz", "images.npy")


def test_a_compressed_array_is_not_memory_mapped(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="compressed"):
        mapped_member(tmp_path / "a.npz", "images.npy")
