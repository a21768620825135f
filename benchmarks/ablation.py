"""Section ablation of `make bench`: `fast` on a short schedule with one thing changed at a time.

Looks at the validation split alone. Rows are kept in benchmarks/ablation.json, one by one.
"""

import statistics
from typing import Any

from benchmarks.rows import Rows
from benchmarks.training import run, training_command
from benchmarks.variants import CHANGES

EPOCHS = 4
CLOSE = 0.01  # of accuracy: changes within it of `fast` are told apart by more seeds


def measure_ablation(rows: Rows, splits: list[str], seeds: int) -> None:
    """A row of `fast` and of each change, and for the close ones a row per seed."""
    for seed in range(seeds):
        for name in ("fast", *CHANGES):
            if seed == 0 or name == "fast" or abs(gain(rows.read(), name)) <= CLOSE:
                rows.measure(f"{name}, seed {seed}", lambda: run(training_command(name, seed, EPOCHS, *splits)))  # noqa: B023


def gain(rows: dict[str, dict[str, Any]], name: str) -> float:
    """By how much the change raises validation accuracy, seed 0 against seed 0."""
    return rows[f"{name}, seed 0"]["validation_accuracy"] - rows["fast, seed 0"]["validation_accuracy"]


def ablation_table(rows: dict[str, dict[str, Any]]) -> str:
    """A line per change that was measured, in Markdown: its accuracy and time against those of `fast`."""
    if not rows:
        return ""
    groups = {
        name: [row for key, row in rows.items() if key.startswith(f"{name}, seed")] for name in ("fast", *CHANGES)
    }
    conditions = rows["fast, seed 0"]["conditions"]
    accuracy, loss, seconds = _means(groups["fast"])
    lines = [
        f"Data: **{conditions['data']}**; {EPOCHS} epochs, validation split, on {conditions['machine']}.",
        "",
        "| `fast` with | validation accuracy | gain, points | validation loss | time | seeds |",
        "|---|---|---|---|---|---|",
        f"| nothing changed | {accuracy:.2%} | | {loss:.3f} | {seconds:.0f} s | {len(groups['fast'])} |",
    ]
    for name, each in groups.items():
        if name != "fast" and each:
            same = groups["fast"][: len(each)]  # the same seeds
            (one, its_loss, its_seconds), (base, _, base_seconds) = _means(each), _means(same)
            lines.append(
                f"| {name} | {one:.2%} | {100 * (one - base):+.2f} | {its_loss:.3f} | {its_seconds / base_seconds:.2f} x "
                f"| {len(each)} |"
            )
    return "\n".join(lines)


def _means(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean validation accuracy, mean validation loss, and median seconds."""
    return (
        statistics.mean(row["validation_accuracy"] for row in rows),
        statistics.mean(row["validation_loss"] for row in rows),
        statistics.median(row["seconds"] for row in rows),
    )
