"""Small archives in CIFAR-10's format."""

import pickle
import struct

import numpy as np

from pipeline.data.synthetic import pack


def row(channel=0, line=0, column=0, value=255):
    """The bytes of one black image with a single lit sub-pixel."""
    planes = np.zeros((1, 3, 32, 32), np.uint8)
    planes[0, channel, line, column] = value
    return planes.reshape(1, -1)


def contents(batches=2, rows=1, names=(b"cat", b"dog")):
    """Content of an archive's files by name, all images black."""
    files = {"batches.meta": {b"num_cases_per_batch": rows, b"label_names": list(names)}}
    for number in range(1, batches + 1):
        title = f"training batch {number} of {batches}".encode()
        data = np.repeat(row(value=number), rows, axis=0)
        files[f"data_batch_{number}"] = {b"batch_label": title, b"labels": [0] * rows, b"data": data}
    files["test_batch"] = {
        b"batch_label": b"testing batch 1 of 1",
        b"labels": [1] * rows,
        b"data": np.repeat(row(), rows, 0),
    }
    return files


def cifar100(train=3, test=2, classes=100):
    """Content of an archive in CIFAR-100's format: random images, label 0 for the first, 1 for the second, ..."""
    generator = np.random.default_rng(0)

    def part(title, count):
        return {
            b"filenames": [b"picture_%06d.png" % number for number in range(count)],
            b"batch_label": title,
            b"fine_labels": [number % classes for number in range(count)],
            b"coarse_labels": [number % 20 for number in range(count)],
            b"data": generator.integers(0, 256, (count, 3072), np.uint8),
        }

    names = {
        b"fine_label_names": [b"fine %d" % number for number in range(classes)],
        b"coarse_label_names": [b"coarse %d" % number for number in range(20)],
    }
    return {"train": part(b"training batch 1 of 1", train), "test": part(b"testing batch 1 of 1", test), "meta": names}


def as_python_2(value):
    """The value, with bytes as str, in a pickle as Python 2 and NumPy 1 wrote it: protocol 2."""
    return b"\x80\x02" + _python_2(value) + b"."


def _python_2(value):
    if isinstance(value, dict):
        return b"}(" + b"".join(_python_2(key) + _python_2(each) for key, each in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python_2, value)) + b"e"
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value + b"r\x01\x00\x00\x00"
    if isinstance(value, int):
        return b"K" + bytes([value])
    rows, width = (b"J" + struct.pack("<i", length) for length in value.shape)
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + rows + width
    dtype = b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return array + dtype + b"\x89T" + struct.pack("<i", value.nbytes) + value.tobytes() + b"tb"


def write(path, files):
    """Pack the files' content as pickles."""
    path.write_bytes(pack({name: pickle.dumps(content, protocol=4) for name, content in files.items()}))
    return path
