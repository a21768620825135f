"""Archives in CIFAR-10's format, written without dates: equal contents give equal bytes."""

import gzip
import io
import tarfile
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np


def batch(title: str, images: np.ndarray, labels: np.ndarray) -> dict[bytes, object]:
    """Content of a batch file: one row per image, first its red, then its green, then its blue channel.

    Images are uint8 (n, side, side, 3), RGB; labels are integers (n,).
    """
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    return {b"batch_label": title.encode(), b"labels": labels.tolist(), b"data": rows}


def write_tar(file: BinaryIO, folder: str, members: Iterable[tuple[str, bytes]], level: int) -> int:
    """Write a tar.gz with these files, by name and content, in `folder`; `level` is the compression, 0 to 9.

    Returns the bytes to which it unpacks.
    """
    with gzip.GzipFile("", "wb", level, file, mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.close()
        return tar.offset
