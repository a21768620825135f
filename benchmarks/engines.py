"""The ways to run a trained network, timed in one process in turn, or started one alone.

python -m benchmarks.engines MODEL_KERAS MODEL_ONNX INT8_ONNX prints JSON: the latencies of all.
python -m benchmarks.engines MODEL_KERAS MODEL_ONNX INT8_ONNX --only ENGINE answers for one image and ends.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.latency import figures, seconds_in_turn
from pipeline.onnx_model import INPUT, OUTPUT, open_session

ROUNDS = {1: 300, 64: 60, 1000: 20}  # calls timed, by images in a call

Call = Callable[[np.ndarray], Any]  # of uint8 (n, 32, 32, 3)


def keras_predict(path: Path) -> Call:
    """`model.predict`, as a notebook has it."""
    from pipeline.keras_file import load_model

    model = load_model(path)
    return lambda images: model.predict(images, batch_size=len(images), verbose=0)


def tf_function(path: Path) -> Call:
    """The network as one TensorFlow graph."""
    import tensorflow as tf

    from pipeline.keras_file import load_model

    model = load_model(path)
    graph = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    return lambda images: graph(tf.constant(images)).numpy()


def onnx_runtime(path: Path) -> Call:
    """An ONNX Runtime session."""
    session = open_session(path)
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


ENGINES = {
    "Keras predict": keras_predict,
    "tf.function": tf_function,
    "ONNX Runtime": onnx_runtime,
    "ONNX Runtime, int8": onnx_runtime,
}


def main() -> None:
    """Print the latencies, or run one engine once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("keras", "onnx", "int8"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--only", choices=ENGINES)
    asked = parser.parse_args()
    files = dict(zip(ENGINES, (asked.keras, asked.keras, asked.onnx, asked.int8), strict=True))
    if asked.only:
        ENGINES[asked.only](files[asked.only])(images(1))
        return
    calls = {name: make(files[name]) for name, make in ENGINES.items()}
    print(json.dumps(latencies(calls)))


def latencies(calls: dict[str, Call]) -> dict[str, dict[str, Any]]:
    """For each engine its figures by the number of images in a call."""
    table: dict[str, dict[str, Any]] = {name: {} for name in calls}
    for size, rounds in ROUNDS.items():
        batch = images(size)
        timed = seconds_in_turn({name: lambda call=call: call(batch) for name, call in calls.items()}, rounds)  # noqa: B023
        for name, seconds in timed.items():
            table[name][str(size)] = figures(seconds, size)
    return table


def images(count: int) -> np.ndarray:
    """Random images, uint8 (count, 32, 32, 3): speed does not depend on what they show."""
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


if __name__ == "__main__":
    main()
