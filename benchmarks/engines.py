"""Inference engines for a trained network, timed in alternation in one process, or one of them as a process of its own.

python -m benchmarks.engines MODEL_KERAS MODEL_ONNX INT8_ONNX prints JSON: the latencies of all engines.
python -m benchmarks.engines MODEL_KERAS MODEL_ONNX INT8_ONNX --only ENGINE classifies one image and ends.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.onnx.session import INPUT, OUTPUT, open_session
from pipeline.registry.latency import figures, seconds_in_turn

ROUNDS = {1: 300, 64: 60, 1000: 20}  # images per call: timed calls

Engine = Callable[[np.ndarray], np.ndarray]  # uint8 (n, 32, 32, 3) -> float32 (n, classes)


def keras_predict(path: Path) -> Engine:
    """`model.predict`, as in a notebook."""
    from pipeline.models.saving import load_model

    model = load_model(path)
    return lambda images: model.predict(images, batch_size=len(images), verbose=0)


def tf_function(path: Path) -> Engine:
    """The network as one TensorFlow graph."""
    import tensorflow as tf

    from pipeline.models.saving import load_model

    model = load_model(path)
    graph = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images: graph(tf.constant(images)).numpy()


def onnx_runtime(path: Path) -> Engine:
    """An ONNX Runtime session."""
    session = open_session(path)
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def openvino(path: Path, **properties: Any) -> Engine:
    """An OpenVINO model on the processor, read from an ONNX file."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino then sends no usage data
    import openvino

    model = openvino.Core().compile_model(path, "CPU", properties)
    return lambda images: model(images)[0]


openvino_float32 = partial(openvino, INFERENCE_PRECISION_HINT="f32")

# How to start an engine, and which of the files it reads.
ENGINES: dict[str, tuple[Callable[[Path], Engine], str]] = {
    "Keras predict": (keras_predict, "keras"),
    "tf.function": (tf_function, "keras"),
    "ONNX Runtime": (onnx_runtime, "onnx"),
    "OpenVINO, float32": (openvino_float32, "onnx"),
    "OpenVINO, its default precision": (openvino, "onnx"),
    "ONNX Runtime, int8": (onnx_runtime, "int8"),
    "OpenVINO, int8": (openvino, "int8"),
}
FILES = ("keras", "onnx", "int8")


def installed_engines() -> list[str]:
    """The names of the engines whose packages are installed; OpenVINO is optional."""
    return [name for name in ENGINES if find_spec("openvino") or not name.startswith("OpenVINO")]


def main() -> None:
    """Print the latencies, or run one engine once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in FILES:
        parser.add_argument(name, type=Path)
    parser.add_argument("--only", choices=ENGINES)
    arguments = parser.parse_args()
    if arguments.only:
        start_engine(arguments.only, vars(arguments))(images(1))
    else:
        print(json.dumps(latencies({name: start_engine(name, vars(arguments)) for name in installed_engines()})))


def start_engine(name: str, files: Mapping[str, Path]) -> Engine:
    """The engine of this name with its file among `files`."""
    start, file = ENGINES[name]
    return start(files[file])


def latencies(engines: Mapping[str, Engine]) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of each engine by the number of images per call."""
    table: dict[str, dict[str, dict[str, float]]] = {name: {} for name in engines}
    for size, rounds in ROUNDS.items():
        calls = {name: partial(engine, images(size)) for name, engine in engines.items()}
        for name, seconds in seconds_in_turn(calls, rounds).items():
            table[name][str(size)] = figures(seconds, size)
    return table


def images(count: int) -> np.ndarray:
    """Random images, uint8 (count, 32, 32, 3): speed does not depend on their content."""
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


if __name__ == "__main__":
    main()
