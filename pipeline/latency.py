"""How fast models answer on this machine, measured in turn so that a busy moment hits them alike."""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROUNDS = {1: 300, 64: 60}  # calls timed, by images in a call


def seconds_in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call, float64 (rounds,): all once uncounted, then all in turn, so many times."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(each) for name, each in seconds.items()}


def figures(seconds: np.ndarray, images: int) -> dict[str, float]:
    """Milliseconds of a call, median and 99th percentile, and images per second at the median.

    Args:
        seconds: float64 (calls,).
        images: in a call.
    """
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50_ms": round(1000 * p50, 4), "p99_ms": round(1000 * p99, 4), "images_per_second": round(images / p50)}


def latency_table(models: dict[str, Callable[[np.ndarray], Any]], images: np.ndarray) -> dict[str, Any]:
    """For each model the figures of calls of 1 and of 64 images, by the number of images.

    Args:
        models: functions of uint8 (n, 32, 32, 3).
        images: uint8 (64 or more, 32, 32, 3), RGB.
    """
    table: dict[str, Any] = {name: {} for name in models}
    for size, rounds in ROUNDS.items():
        calls = {name: lambda model=model: model(images[:size]) for name, model in models.items()}  # noqa: B023
        for name, seconds in seconds_in_turn(calls, rounds).items():
            table[name][f"batch_{size}"] = figures(seconds, size)
    return table


def machine() -> str:
    """Cores, processor, memory and Python, in words."""
    names = [line.split(":")[1].strip() for line in processor_facts().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {processor}, {gigabytes:.0f} GiB, Python {platform.python_version()}"


def processor_facts() -> str:
    """What Linux says of the processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
