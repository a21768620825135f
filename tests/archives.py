"""Small archives in CIFAR-10's format."""

import pickle

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


def write(path, files):
    """Pack the files' content as pickles."""
    path.write_bytes(pack({name: pickle.dumps(content, protocol=4) for name, content in files.items()}))
    return path
