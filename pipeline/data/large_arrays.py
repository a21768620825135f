"""Images of any size and number: in blocks of bounded memory, and memory-mapped if they are many.

The system keeps in memory what is in use of a memory-mapped array. The files of memory-mapped arrays have no name, so
they are gone when the process ends, however it ends.
"""

import math
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LIMIT = 1 << 29  # bytes; larger arrays are memory-mapped, which is as fast. CIFAR-10 has 184 MB
ZEROS = bytes(1 << 20)
BLOCK = 1_000  # images that are copied at once


def images_per_block(images: np.ndarray, nbytes: int) -> int:
    """How many `images`, uint8 (n, height, width, 3), have `nbytes` bytes together; at least 1."""
    return max(1, nbytes // math.prod(images.shape[1:]))


def batch_of(size: int, images: np.ndarray) -> int:
    """How many of `images`, uint8 (n, side, side, 3), have the bytes of `size` images of side 32; at most `size`."""
    return min(size, images_per_block(images, size * 32 * 32 * 3))


def blocks(images: np.ndarray, nbytes: int) -> Iterator[np.ndarray]:
    """`images`, uint8 (n, height, width, 3), in their order, `nbytes` bytes at once, or one image if it has more."""
    step = images_per_block(images, nbytes)
    return (images[start : start + step] for start in range(0, len(images), step))


def new_images(shape: tuple[int, ...], folder: Path, limit: int | None = None) -> np.ndarray:
    """A uint8 array with undefined content; with more bytes than the limit it is memory-mapped from `folder`.

    Raises `OSError` if the disk is full: the space is reserved now, since a later failure would kill the process.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size <= (LIMIT if limit is None else limit):
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(dir=folder) as file:
        for start in range(0, size, len(ZEROS)):
            file.write(ZEROS[: size - start])
        file.flush()
        return np.memmap(file, np.uint8, "r+", shape=shape)


def joined(parts: list[np.ndarray], folder: Path) -> np.ndarray:
    """The images of all `parts` in order; the list is emptied, so that each part can leave memory."""
    if len(parts) == 1:
        return parts.pop()
    result = new_images((sum(map(len, parts)), *parts[0].shape[1:]), folder)
    start = 0
    while parts:
        part = parts.pop(0)
        result[start : start + len(part)] = part
        start += len(part)
    return result


def on_disk(images: np.ndarray, folder: Path) -> np.ndarray:
    """The same images, memory-mapped from `folder`."""
    result = new_images(images.shape, folder, limit=0)
    result[:] = images
    return result


def chosen(images: np.ndarray, mask: np.ndarray, folder: Path) -> np.ndarray:
    """The images where `mask`, bool (n,), is true."""
    indices = np.flatnonzero(mask)
    result = new_images((len(indices), *images.shape[1:]), folder)
    for start in range(0, len(indices), BLOCK):
        result[start : start + BLOCK] = images[indices[start : start + BLOCK]]
    return result


def mapped_member(path: Path, name: str) -> np.ndarray:
    """A uint8 array in an uncompressed .npz file, memory-mapped, read-only; `ValueError` if it is another array.

    `np.load` cannot do this: https://numpy.org/doc/stable/reference/generated/numpy.load.html (`mmap_mode`).
    """
    with zipfile.ZipFile(path) as file, file.open(name) as member:
        np.lib.format.read_magic(member)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        start, entry = member.tell(), file.getinfo(name)
    if dtype != np.uint8 or is_fortran or entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is {dtype}, compressed or in another order, expected was uint8")
    with path.open("rb") as raw:
        raw.seek(entry.header_offset + 26)  # lengths of name and extra field: PKWARE's APPNOTE, section 4.3.7
        lengths = struct.unpack("<HH", raw.read(4))
    offset = entry.header_offset + 30 + sum(lengths) + start
    return np.memmap(path, np.uint8, "r", offset, shape)
