"""Keras on TensorFlow, started without the chatter that a user cannot act on."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Notes and warnings of start-up, and two errors that are none: this machine has no NVIDIA driver
# (303), and tf.data under op determinism meets an attribute that it ignores.
CHATTER = re.compile(
    r"WARNING: All log messages before absl|[IW]\d{4} |E\d{4} .*(cuInit.*\(303\)|NodeDef mentions attribute)"
)


def start_keras() -> Any:
    """The keras module on the TensorFlow backend, its devices found."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # both are read at import
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with without_chatter():
        import keras
        import tensorflow

        tensorflow.config.list_physical_devices()
    return keras


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what is written to stderr, by C++ code too, and then let through what is no chatter.

    TensorFlow 2.21 writes its first messages before it reads TF_CPP_MIN_LOG_LEVEL.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            sys.stderr.writelines(line for line in held if not CHATTER.match(line))
