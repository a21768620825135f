"""Inference engines for a trained network, timed in alternation in one process, or one of them as a process of its own.

python -m benchmarks.engines MODEL_KERAS MODEL_ONNX INT8_ONNX prints JSON: the latencies of all engines.
python -m benchmarks.engines MODEL_KERAS MODEL_ONNX INT8_ONNX --only ENGINE classifies one image and ends.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

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


ENGINES = {
    "Keras predict": keras_predict,
    "tf.function": tf_function,
    "ONNX Runtime": onnx_runtime,
    "ONNX Runtime, int8": onnx_runtime,
}


def main() -> None:
    """Print the latencies, or run one engine once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("keras", "onnx", "int8"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--only", choices=ENGINES)
    arguments = parser.parse_args()
    files = dict(zip(ENGINES, (arguments.keras, arguments.keras, arguments.onnx, arguments.int8), strict=True))
    if arguments.only:
        ENGINES[arguments.only](files[arguments.only])(images(1))
    else:
        print(json.dumps(latencies({name: start(files[name]) for name, start in ENGINES.items()})))


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
