"""Latency of models on this machine, measured in alternation: other load then affects all models equally."""

from collections.abc import Callable, Mapping
from functools import partial
from timeit import timeit

import numpy as np

ROUNDS = {1: 300, 64: 60}  # images per call: timed calls
Table = dict[str, dict[str, dict[str, float]]]  # figures by model and by batch, such as "batch_64"


def seconds_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call, float64 (rounds,): in each round all calls in order, after one untimed round."""
    seconds = [[timeit(call, number=1) for call in calls.values()] for _ in range(rounds + 1)]
    return dict(zip(calls, np.array(seconds[1:]).T, strict=True))


def figures(seconds: np.ndarray, images: int) -> dict[str, float]:
    """Median and 99th percentile of the latency in milliseconds, and images per second; `images` is per call."""
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50_ms": round(1000 * p50, 4), "p99_ms": round(1000 * p99, 4), "images_per_second": round(images / p50)}


def latency_table(models: Mapping[str, Callable[[np.ndarray], object]], images: np.ndarray) -> Table:
    """For each model, a function of images, the figures of calls with the first 1 and the first 64 `images`."""
    table: Table = {name: {} for name in models}
    for size, rounds in ROUNDS.items():
        calls = {name: partial(model, images[:size]) for name, model in models.items()}
        for name, seconds in seconds_in_turn(calls, rounds).items():
            table[name][f"batch_{size}"] = figures(seconds, size)
    return table
