"""`make seeds N=5`: how much the accuracy depends on the seed: python -m pipeline.seeds N TABLE FIGURES SPLITS VERDICT

Trains with the seeds 0 to N - 1: as DVC experiments named seed-0, seed-1, ..., or on the Ray cluster at RAY_ADDRESS.
Each ends with the accuracy on test, so none of them becomes a candidate of `make export`.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.files import atomic_outputs, exclusive, write_csv, write_json

Metrics = dict[str, float]
FEWEST = 2  # trainings; one training has no standard deviation
METRICS = {"validation_accuracy": ("train", "validation_accuracy"), "test_accuracy": ("evaluate", "accuracy")}


def seeds(count: str, table: Path, figures: Path, *validated: Path) -> None:
    """Train with `count` seeds; write one row per seed, and the mean, the spread and the seed noise of each metric.

    Args:
        validated: the three splits and validate.json, which the machines of a cluster get.

    Raises:
        PipelineError: `count` is not an integer of 2 or more, or a training failed.
    """
    if not count.isdecimal() or int(count) < FEWEST:
        raise PipelineError(f"N is {count!r}, but it should be an integer of {FEWEST} or more. Run `make seeds N=5`.")
    with trainings(int(count), validated) as found:
        rows: list[dict[str, float]] = []
        for seed, metrics in found:
            rows.append({"seed": seed, **metrics})
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())
            print(f"seeds: seed {seed}: {shown}", flush=True)
        rows.sort(key=lambda row: row["seed"])
        summaries = {name: summarize([row[name] for row in rows]) for name in METRICS}
        flat = {f"{name}_{key}": value for name, summary in summaries.items() for key, value in summary.items()}
        with atomic_outputs(table, figures) as drafts:
            write_csv(drafts[0], rows)
            write_json(drafts[1], {"trainings": len(rows), **flat})
    print(describe(len(rows), summaries))


def trainings(count: int, validated: tuple[Path, ...]) -> AbstractContextManager[Iterator[tuple[int, Metrics]]]:
    """The metrics of each seed, from the cluster at RAY_ADDRESS or from this machine."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return nullcontext(experiments(count))
    from pipeline.distributed import seeds as distributed

    print(f"seeds: {count} trainings on the cluster at {address}; each is reported when it ends", flush=True)
    run_dvc("repro", "validate")
    return distributed.trainings(count, address, *validated)


def experiments(count: int) -> Iterator[tuple[int, Metrics]]:
    """Train one after another; DVC takes trainings that it already has from its cache."""
    for seed in range(count):
        print(f"seeds: training {seed + 1} of {count}, seed {seed}", flush=True)
        yield seed, train_and_evaluate(seed)


def train_and_evaluate(seed: int) -> Metrics:
    """Run the experiment of a seed up to evaluate, in a temporary folder, and return its metrics."""
    import dvc.api

    experiment = f"seed-{seed}"
    run_dvc("exp", "remove", experiment, check=False)  # of an earlier call, perhaps with other settings
    run_dvc("exp", "run", "--temp", "--name", experiment, "--set-param", f"train.seed={seed}", "evaluate")
    return {
        name: json.loads(dvc.api.read(f"reports/headline/{stage}.json", rev=experiment))[key]
        for name, (stage, key) in METRICS.items()
    }


def run_dvc(*arguments: str, check: bool = True) -> None:
    """Run a DVC command; show the lines of its output that report an epoch. `PipelineError` if it fails."""
    command, last = [sys.executable, "-m", "dvc", *arguments], deque[str](maxlen=5)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            if line.startswith("epoch "):
                print(f"  {line}", end="", flush=True)
    if check and process.returncode:
        raise PipelineError("\n  ".join([f"`dvc {' '.join(arguments)}` failed:", *last]))


def summarize(values: list[float]) -> dict[str, float]:
    """Mean, standard deviation, range and seed noise of one metric.

    Seed noise: 95 % of the differences that only the seed causes are smaller (two-sided, Student's t,
    equal standard deviations). `seed_noise` is for the difference between two trainings,
    `seed_noise_of_means` for the difference between two means of `len(values)` trainings.
    """
    from scipy.stats import t

    count, deviation = len(values), statistics.stdev(values)
    return {
        "mean": statistics.fmean(values),
        "standard_deviation": deviation,
        "lowest": min(values),
        "highest": max(values),
        "seed_noise": float(t.ppf(0.975, count - 1)) * deviation * math.sqrt(2),
        "seed_noise_of_means": float(t.ppf(0.975, 2 * count - 2)) * deviation * math.sqrt(2 / count),
    }


def describe(trainings: int, summaries: dict[str, dict[str, float]]) -> str:
    """The summaries as text: accuracies in percent, differences in percentage points."""
    lines = [f"seeds: {trainings} trainings that differ only in their seed:"]
    for name, summary in summaries.items():
        mean, spread, lowest, highest, noise, noise_of_means = (f"{100 * value:.2f}" for value in summary.values())
        lines += [
            f"  {name.replace('_', ' ')}: mean {mean} %, standard deviation {spread} points, {lowest} to {highest} %",
            f"    differences above {noise} points between two runs are larger than seed noise "
            f"({noise_of_means} points between two means of {trainings} runs)",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    with exit_on_error("seeds"), exclusive("seeds"):
        seeds(sys.argv[1], *map(Path, sys.argv[2:]))
