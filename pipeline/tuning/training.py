"""A training in a process of Ray: splits and checkpoint are in the storage, so any machine can continue it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.splits import read_split
from pipeline.distributed.storage import SharedFile, download, exists, fetch, upload
from pipeline.models.keras_backend import start_keras
from pipeline.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from pipeline.training.settings import TrainParams

if TYPE_CHECKING:
    import keras

EndEpoch = Callable[[Checkpoint], None]


def train(
    params: TrainParams,
    threads: int,
    training: SharedFile,
    validation: SharedFile,
    end_epoch: EndEpoch,
    checkpoint: Checkpoint | None,
) -> "tuple[keras.Model, list[dict[str, float]], float]":
    """`fit` of the shared splits with so many threads: the network, a row per epoch, seconds."""
    start_keras()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    from pipeline.training.fit import fit

    splits = read_split(fetch(training)), read_split(fetch(validation))
    return fit(params, *splits, end_epoch, checkpoint)


@contextmanager
def checkpoint_at(address: str) -> Iterator[tuple[Checkpoint | None, EndEpoch]]:
    """The checkpoint in the storage if there is one, and a function that replaces it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.npz"
        if exists(address):
            download(address, file)

        def store(checkpoint: Checkpoint) -> None:
            write_checkpoint(file, checkpoint, "")
            upload(file, address)

        yield read_checkpoint(file)[0], store
