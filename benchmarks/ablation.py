"""Section ablation of `make bench`: `fast` on a short schedule with one change at a time.

It reads only the validation split. Rows are saved in benchmarks/ablation.json, one by one.
"""

import statistics

from benchmarks.rows import Rows
from benchmarks.training import measure_variant
from benchmarks.variants import ABLATION_EPOCHS, CHANGES
from pipeline.common.files import Json

CLOSE = 0.01  # of accuracy: a change with a smaller effect is measured with more seeds


def measure_ablation(rows: Rows, splits: list[str], seeds: int) -> None:
    """Measure `fast` with each seed, each change with seed 0, and changes with a small effect with each seed."""
    for seed in range(seeds):
        for name in ("fast", *CHANGES):
            if seed == 0 or name == "fast" or abs(gain(rows.read(), name)) <= CLOSE:
                measure_variant(rows, name, seed, ABLATION_EPOCHS, splits)


def gain(rows: dict[str, Json], name: str) -> float:
    """By how much the change raises validation accuracy, with seed 0."""
    return rows[f"{name}, seed 0"]["validation_accuracy"] - rows["fast, seed 0"]["validation_accuracy"]


def ablation_table(rows: dict[str, Json]) -> str:
    """The measured changes in Markdown, one line each: accuracy and time compared with `fast`; empty without rows."""
    if not rows:
        return ""
    groups = {
        name: [row for key, row in rows.items() if key.startswith(f"{name}, seed")] for name in ("fast", *CHANGES)
    }
    conditions = rows["fast, seed 0"]["conditions"]
    accuracy, loss, seconds = _means(groups["fast"])
    lines = [
        f"Data: **{conditions['data']}**; {ABLATION_EPOCHS} epochs, validation split, on {conditions['machine']}.",
        "",
        "| change to `fast` | validation accuracy | gain, points | validation loss | time | seeds |",
        "|---|---|---|---|---|---|",
        f"| none | {accuracy:.2%} | | {loss:.3f} | {seconds:.0f} s | {len(groups['fast'])} |",
    ]
    for name, each in groups.items():
        if name != "fast" and each:
            baseline = groups["fast"][: len(each)]  # the same seeds
            (accuracy, loss, seconds), (base, _, base_seconds) = _means(each), _means(baseline)
            lines.append(
                f"| {name} | {accuracy:.2%} | {100 * (accuracy - base):+.2f} | {loss:.3f} "
                f"| {seconds / base_seconds:.2f} x | {len(each)} |"
            )
    return "\n".join(lines)


def _means(rows: list[Json]) -> tuple[float, float, float]:
    """Mean validation accuracy, mean validation loss, and median seconds."""
    return (
        statistics.mean(row["validation_accuracy"] for row in rows),
        statistics.mean(row["validation_loss"] for row in rows),
        statistics.median(row["seconds"] for row in rows),
    )
