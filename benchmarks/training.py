"""Section training of `make bench`: the textbook script and the networks of the project, one after another.

Rows are saved in benchmarks/training.json, one by one: an interrupted benchmark continues with the next row. This
section reads the test split, with finished networks; the ablation (benchmarks/ablation.py) only the validation split.
"""

import json
import sys
from pathlib import Path

from benchmarks import brief
from benchmarks.measure import measure
from benchmarks.rows import Rows
from benchmarks.training_report import TEXTBOOK
from pipeline.common.files import Json


def measure_training(rows: Rows, archive: Path, splits: list[str], seeds: int, accurate: bool) -> None:
    """Measure the textbook script once, `basic` and `fast` with each seed in alternation, and `accurate` once."""
    textbook = [sys.executable, "-m", "benchmarks.brief", str(archive), str(brief.EPOCHS)]
    rows.measure(f"{TEXTBOOK}, seed 0", lambda: run(textbook))
    for seed in range(seeds):
        for name in ("basic", "fast"):
            measure_variant(rows, name, seed, 0, splits)
    if accurate:
        measure_variant(rows, "accurate", 0, 0, splits)


def measure_variant(rows: Rows, name: str, seed: int, epochs: int, splits: list[str]) -> None:
    """Add a row of one training; 0 epochs is the network's own number."""
    command = [sys.executable, "-m", "benchmarks.train_one", name, str(seed), str(epochs), *splits]
    rows.measure(f"{name}, seed {seed}", lambda: run(command))


def run(command: list[str]) -> Json:
    """The figures that a training process prints, and its peak memory in MB."""
    measured = measure(command, Path.cwd())
    return json.loads(measured.output.splitlines()[-1]) | {"megabytes": measured.megabytes}
