"""Section training of `make bench`: the textbook script against the project's networks, one after another.

Rows are kept in benchmarks/training.json, one by one: a run that was cut goes on where it stopped. The test split is
read here, by finished networks; the ablation (benchmarks/ablation.py) looks at validation alone.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import measure
from benchmarks.rows import Rows
from benchmarks.training_report import TEXTBOOK

EPOCHS = 10  # of the textbook script


def measure_training(rows: Rows, archive: Path, splits: list[str], seeds: int, accurate: bool) -> None:
    """A row of the textbook script, and one per seed of `basic` and `fast`, in turn; at last one of `accurate`."""
    textbook = [sys.executable, "-m", "benchmarks.brief", str(archive), str(EPOCHS)]
    rows.measure(f"{TEXTBOOK}, seed 0", lambda: run(textbook))
    for seed in range(seeds):
        for name in ("basic", "fast"):
            rows.measure(f"{name}, seed {seed}", lambda: run(training_command(name, seed, 0, *splits)))  # noqa: B023
    if accurate:
        rows.measure("accurate, seed 0", lambda: run(training_command("accurate", 0, 0, *splits)))


def training_command(variant: str, seed: int, epochs: int, *splits: str) -> list[str]:
    """The process that trains once; 0 epochs are the network's own."""
    return [sys.executable, "-m", "benchmarks.train_one", variant, str(seed), str(epochs), *splits]


def run(command: list[str]) -> dict[str, Any]:
    """The figures that a training's process prints, and its peak memory in MB."""
    measured = measure(command, Path.cwd())
    return json.loads(measured.output.splitlines()[-1]) | {"megabytes": measured.megabytes}
