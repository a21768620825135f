"""Section training of `make bench`: the peers and the networks of the project, one after another.

Rows are saved in benchmarks/training.json, one by one: an interrupted benchmark continues with the next row. This
section reads the test split, with finished networks; the ablation (benchmarks/ablation.py) only the validation split.
"""

import json
import sys
from pathlib import Path

from benchmarks import brief, resnet20, torch_peer
from benchmarks.measure import measure
from benchmarks.rows import Rows
from benchmarks.training_report import RESNET20, TEXTBOOK, TORCH, TORCH_NETWORK
from pipeline.common.files import Json


def measure_training(rows: Rows, archive: Path, splits: list[str], seeds: int, networks: list[str]) -> None:
    """Measure the peers once, and the networks with each seed in alternation."""
    measure_program(rows, f"{TEXTBOOK}, seed 0", "brief", str(archive), str(brief.EPOCHS))
    measure_program(rows, f"{RESNET20}, seed 0", "resnet20", str(archive), str(resnet20.EPOCHS))
    if TORCH_NETWORK in networks:
        measure_torch(rows)
    for seed in range(seeds):
        for name in networks:
            measure_variant(rows, name, seed, 0, splits)


def measure_torch(rows: Rows) -> None:
    """Add a row of PyTorch, or print why there is none."""
    if reason := torch_peer.why_not():
        print(f"bench: without rows of PyTorch: {reason}", flush=True)
    else:
        measure_program(rows, TORCH, "torch_peer", TORCH_NETWORK, str(torch_peer.STEPS), "eager", "compile")


def measure_variant(rows: Rows, name: str, seed: int, epochs: int, splits: list[str]) -> None:
    """Add a row of one training; 0 epochs is the network's own number."""
    measure_program(rows, f"{name}, seed {seed}", "train_one", name, str(seed), str(epochs), *splits)


def measure_program(rows: Rows, name: str, program: str, *arguments: str) -> None:
    """Add a row of one run of a program in benchmarks/."""
    rows.measure(name, lambda: run([sys.executable, "-m", f"benchmarks.{program}", *arguments]))


def run(command: list[str]) -> Json:
    """The figures that a training process prints, and its peak memory in MB."""
    measured = measure(command, Path.cwd())
    return json.loads(measured.output.splitlines()[-1]) | {"megabytes": measured.megabytes}
