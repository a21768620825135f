"""`make seeds N=5`: how much a score owes to the seed: python -m pipeline.seeds N TABLE FIGURES

Trains with the seeds 0 to N - 1 as DVC experiments named seed-0, seed-1, ...; each ends with
evaluate, so that none of them competes in `make export`.
"""

import math
import statistics
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, one_message
from pipeline.files import whole, write_csv, write_json

FEWEST = 2  # trainings of which a spread can be told
SCORES = {"validation_accuracy": ("train", "validation_accuracy"), "test_accuracy": ("evaluate", "accuracy")}


def seeds(count: str, table: Path, figures: Path) -> None:
    """Train with so many seeds; write a row per seed, and mean, spread and the difference that counts as real.

    What was trained before with the same settings comes from DVC's cache.

    Raises:
        PipelineError: `count` is no number from 2, or an experiment failed.
    """
    if not count.isdecimal() or int(count) < FEWEST:
        raise PipelineError(f"N is {count!r}, but it should be a whole number from {FEWEST}. Run `make seeds N=5`.")
    rows = []
    for seed in range(int(count)):
        print(f"seeds: training {seed + 1} of {count}, seed {seed}", flush=True)
        rows.append({"seed": seed} | train_and_score(seed))
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in rows[-1].items() if name != "seed")
        print(f"seeds: seed {seed}: {shown}", flush=True)
    summary = {"trainings": len(rows)}
    for name in SCORES:
        summary |= spread_of(name, [row[name] for row in rows])
    with whole(table, figures) as drafts:
        write_csv(drafts[0], rows)
        write_json(drafts[1], summary)
    print(told(summary))


def train_and_score(seed: int) -> dict[str, float]:
    """Run the experiment of a seed up to evaluate, in a temporary folder; its scores."""
    import dvc.api

    name = f"seed-{seed}"
    run_dvc("exp", "remove", name, check=False)  # of an earlier call, perhaps with other settings
    run_dvc("exp", "run", "--temp", "--name", name, "--set-param", f"train.seed={seed}", "evaluate")
    return {
        score: dvc.api.metrics_show(f"reports/metrics/{stage}.json", rev=name)[key]
        for score, (stage, key) in SCORES.items()
    }


def run_dvc(*arguments: str, check: bool = True) -> None:
    """Run a command of DVC; of what it prints only the epochs are shown.

    Raises:
        PipelineError: it failed, with its last words.
    """
    command, last = [sys.executable, "-m", "dvc", *arguments], deque[str](maxlen=5)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            last.append(line.rstrip())
            if line.startswith("epoch "):
                print(f"  {line}", end="", flush=True)
    if check and process.returncode:
        raise PipelineError("\n  ".join([f"`dvc {' '.join(arguments)}` failed:", *last]))


def spread_of(name: str, values: list[float]) -> dict[str, float]:
    """Mean, standard deviation, lowest, highest, and which differences are more than the seed's doing.

    `real_difference` is of two single trainings, `real_difference_of_means` of the means of two
    times so many: 95 % two-sided, Student's t, equal spreads.
    """
    from scipy.stats import t

    count, spread = len(values), statistics.stdev(values)
    return {
        f"{name}_mean": statistics.fmean(values),
        f"{name}_standard_deviation": spread,
        f"{name}_lowest": min(values),
        f"{name}_highest": max(values),
        f"{name}_real_difference": float(t.ppf(0.975, count - 1)) * spread * math.sqrt(2),
        f"{name}_real_difference_of_means": float(t.ppf(0.975, 2 * count - 2)) * spread * math.sqrt(2 / count),
    }


def told(summary: dict[str, Any]) -> str:
    """The summary in words, accuracies in percent."""
    lines = [f"seeds: {summary['trainings']} trainings that differ by their seed alone:"]
    for name in SCORES:
        mean, spread, lowest, highest, single, means = (
            f"{value:.2%}" for key, value in summary.items() if key.startswith(name)
        )
        lines += [
            f"  {name.replace('_', ' ')}: {mean} on average, standard deviation {spread}, {lowest} to {highest}",
            f"    two single trainings differ really from {single} on, two means of {summary['trainings']} from {means} on",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    with one_message("seeds"):
        seeds(sys.argv[1], *map(Path, sys.argv[2:]))
