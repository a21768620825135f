"""Keras on TensorFlow, without log lines that a user cannot act on."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from pipeline.common.environment import ignore_user_settings

# Notes and warnings of TensorFlow's C++ code, and two lines that it logs as errors: no NVIDIA driver
# (303), and an attribute that tf.data ignores under op determinism.
HIDDEN = (
    r"^(WARNING: All log messages before absl|[IW][0-9]{4} |E[0-9]{4} .*(cuInit.*\(303\)|NodeDef mentions attribute))"
)

# Keras imports them if they are installed, for inputs and plots that this project does not use: 1.6 s and 150 MB.
UNUSED = ("matplotlib", "pandas", "sklearn")


def start_keras() -> ModuleType:
    """The keras module on the TensorFlow backend, with its devices initialized."""
    ignore_user_settings()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported
    with filtered_stderr(), hidden_modules(UNUSED):
        import keras
        import tensorflow

        tensorflow.config.list_physical_devices()
        tensorflow.get_logger().setLevel("ERROR")  # a warning says that few images make many graphs
    return keras


@contextmanager
def hidden_modules(names: Iterable[str]) -> Iterator[None]:
    """In the block, importing one of these modules fails as if it was not installed, unless it was imported before."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]  # None: it cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def filtered_stderr(hidden: str = HIDDEN) -> Iterator[None]:
    """Drop the lines of stderr that match `hidden`, those of C++ code too; all other lines pass through at once.

    grep does the filtering: it is a process of its own, so the last words of a crash are not lost.
    """
    sys.stderr.flush()
    original = os.dup(2)
    command = ["grep", "--text", "--line-buffered", "--extended-regexp", "--invert-match", hidden]
    reader, writer = os.pipe()
    grep = subprocess.Popen(  # a group of its own, so that Ctrl-C does not end it first
        command, stdin=reader, stdout=original, env=os.environ | {"LC_ALL": "C"}, process_group=0
    )
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)  # the last handle of the pipe: grep sees its end
        os.close(original)
        with suppress(subprocess.TimeoutExpired):  # a child process that still runs keeps the pipe open
            grep.wait(5)
