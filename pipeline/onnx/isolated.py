"""Inference with an ONNX file from outside, in a process of its own with bounds of time and memory.

ONNX Runtime is not a sandbox: a file of a few bytes can loop for ever or fill the memory, also while it is opened, and
only the end of the process stops that. `pipeline.predict` uses this module, so it imports nothing heavy.
"""

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from pipeline.common.errors import PipelineError, printable, root_cause
from pipeline.data.cifar10 import CHANNELS
from pipeline.data.large_arrays import batch_of
from pipeline.data.pictures import PREPROCESSING, SIDES
from pipeline.onnx.session import INPUT, OUTPUT, open_session, predict_probabilities

if TYPE_CHECKING:
    import onnxruntime

SECONDS, SECONDS_PER_IMAGE = 20.0, 0.1  # to open the file, and to classify a message of images of 32 x 32 pixels
MEMORY = 4 << 30  # bytes of data of the process
MAXIMUM_TEXT = 2_000_000  # characters of the names of classes
BATCH_SIZE = 64  # images of 32 x 32 pixels; larger ones make smaller batches
MESSAGE = 1 << 26  # bytes of images in a message, at most
SUM_TOLERANCE = 1e-3  # of the probabilities of an image
LENGTH = struct.Struct("<Q")
CHILD = "import sys; sys.path[:0] = [sys.argv[1]]; from pipeline.onnx.isolated import serve; serve(*sys.argv[2:])"


class UnusableModel(PipelineError):
    """A model or its files, made by others, that cannot be used; the message is the reason."""


class IsolatedModel:
    """A model in a process of its own; `UnusableModel` if it has another interface, fails, or exceeds a bound.

    Args:
        content: the ONNX file.
        classes: number of columns that the output must have.
        strict: refuse operators that are not ONNX's own, and subgraphs (loops); this imports onnx.
        threads: for each operation; 0 is one per core.

    Attributes:
        side: height and width of its images in pixels, 16 to 128.
        class_names: the metadata of this name, a list as JSON; empty if there is none.
        preprocessing: the metadata of this name; `pictures.PREPROCESSING` if there is none.
    """

    def __init__(self, content: bytes, classes: int, strict: bool = False, threads: int = 0) -> None:
        if strict:
            _require_plain_graph(content)
        arguments = [Path(__file__).parents[2], classes, threads, MEMORY, SECONDS, SECONDS_PER_IMAGE]
        self._classes = classes
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            answer = self._ask(content)
            self.side, self.class_names = int(answer["side"]), str(answer["class_names"])
            self.preprocessing = str(answer["preprocessing"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (n, classes), of `images`, uint8 (n, side, side, 3); finite, each row sums to 1."""
        if images.shape[1:] != (self.side, self.side, CHANNELS):
            raise UnusableModel(f"its images have {self.side} x {self.side} pixels, given were {images.shape[1:]}")
        size = MESSAGE // (self.side**2 * CHANNELS)
        return np.concatenate([self._predict(images[i : i + size]) for i in range(0, len(images), size)])

    def _predict(self, images: np.ndarray) -> np.ndarray:
        """The probabilities of one message of images."""
        self._ask(images.tobytes())
        content = self._stdout.read(4 * len(images) * self._classes)
        return np.frombuffer(content, np.float32).reshape(len(images), self._classes)

    @property
    def _stdout(self) -> BinaryIO:
        return self._process.stdout  # type: ignore[return-value]  # it is a pipe

    def _ask(self, content: bytes) -> dict[str, str | int]:
        """Send a message; the first line of the answer."""
        try:
            self._process.stdin.write(LENGTH.pack(len(content)) + content)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # the process has ended
        if not (line := self._stdout.readline()):
            code = self._process.wait()
            raise UnusableModel(
                "it needs too much time" if code == -signal.SIGALRM else f"its process ends with {code}"
            )
        answer: dict[str, str | int] = json.loads(line)
        if "error" in answer:
            raise UnusableModel(str(answer["error"]))
        return answer


def _require_plain_graph(content: bytes) -> None:
    from pipeline.onnx.plain_graph import check_graph

    try:
        check_graph(content)
    except ValueError as error:
        raise UnusableModel(printable(str(error), 500)) from None


def serve(classes: str, threads: str, memory: str, seconds: str, seconds_per_image: str) -> None:
    """The process of an `IsolatedModel`: opens the model that comes first on stdin, then classifies images."""
    limit_memory(int(memory))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, also inside ONNX Runtime
    os.chdir(folder := tempfile.mkdtemp())
    os.rmdir(folder)  # external data must be below the working folder, so there is none
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    try:
        content = receive(source) or b""
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
        session = open_session(content, int(threads))
        side = side_of(session, int(classes))
        metadata = session.get_modelmeta().custom_metadata_map
        texts = {"class_names": "", "preprocessing": PREPROCESSING} | metadata
        facts = {name: texts[name][:MAXIMUM_TEXT] for name in ("class_names", "preprocessing")}
        send(target, {"side": side, **facts})
        while (message := receive(source)) is not None:
            images = np.frombuffer(message, np.uint8).reshape(-1, side, side, CHANNELS)
            per_image = float(seconds_per_image) * max(1, (side / 32) ** 2)
            signal.setitimer(signal.ITIMER_REAL, float(seconds) + per_image * len(images))
            probabilities = predict_probabilities(session, images, batch_of(BATCH_SIZE, images))
            require_probabilities(probabilities, len(images), int(classes))
            send(target, {}, probabilities.tobytes())
    except MemoryError:
        send(target, {"error": "it needs too much memory"})
    except Exception as error:  # a damaged file can raise anything
        send(target, {"error": printable(root_cause(error), 300)})


def receive(source: BinaryIO) -> bytes | None:
    """The next message; None at the end. To wait for it takes no time of the model."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    header = source.read(LENGTH.size)
    return source.read(*LENGTH.unpack(header)) if header else None


def send(target: BinaryIO, answer: dict[str, str | int], content: bytes = b"") -> None:
    target.write(json.dumps(answer).encode() + b"\n" + content)
    target.flush()


def limit_memory(size: int) -> None:
    """Let the process have at most `size` bytes of data; only some systems (Linux) enforce it."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard == resource.RLIM_INFINITY or hard > size:
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def side_of(session: "onnxruntime.InferenceSession", classes: int) -> int:
    """Height and width of the model's images in pixels.

    `ValueError` if its input and output are not those of the project, for any number of images.
    """
    described = []
    for value in (*session.get_inputs(), *session.get_outputs()):
        first = ["batch" if not isinstance(size, int) else size for size in value.shape[:1]]
        described.append(f"{value.name}: {value.type} {first + value.shape[1:]}")
    actual = "; ".join(described)
    expected = f"{INPUT}: tensor(uint8) ['batch', %s, %s, {CHANNELS}]; {OUTPUT}: tensor(float) ['batch', {classes}]"
    for side in SIDES:
        if actual == expected % (side, side):
            return side
    raise ValueError(
        f"its input and output are {actual[:300]}, expected were {expected % ('side', 'side')}, "
        f"with a side of {SIDES[0]} to {SIDES[-1]}"
    )


def require_probabilities(probabilities: np.ndarray, images: int, classes: int) -> None:
    """Raise `ValueError` if the output is not a row of probabilities for each image."""
    if probabilities.shape != (images, classes) or probabilities.dtype != np.float32:
        raise ValueError(f"its output for {images} images is {probabilities.dtype} {probabilities.shape}")
    if not (np.abs(probabilities.sum(1) - 1) <= SUM_TOLERANCE).all() or (probabilities < 0).any():  # NaN fails too
        raise ValueError("its outputs are not probabilities: finite, at least 0, with the sum 1 for each image")
