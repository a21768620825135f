"""The training rows as a table in Markdown and as a picture of accuracy against time."""

import statistics
from pathlib import Path
from typing import Any

TEXTBOOK = "the textbook script"
Groups = dict[str, list[dict[str, Any]]]  # rows of each network, one per seed


def by_network(rows: dict[str, dict[str, Any]]) -> Groups:
    """Rows named "network, seed N" under their network's name, the textbook script first, the slowest last."""
    order = (TEXTBOOK, "basic", "fast", "accurate")
    groups = {network: [row for name, row in rows.items() if name.startswith(f"{network}, ")] for network in order}
    return {network: each for network, each in groups.items() if each}


def training_table(rows: Groups) -> str:
    """A line per network, medians over its seeds; the accuracy's range where there are several."""
    target = rows[TEXTBOOK][0]["accuracy"]
    peaks = matmul_peaks(rows)
    lines = [
        f"| training | epochs | seconds of the fit | images/s | seconds to {target:.1%} on test | test accuracy "
        "| peak memory, MB | share of the matrix product's speed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in rows.items():
        speed = statistics.median(row["images_per_second"] for row in each)
        cells = [
            name if name == TEXTBOOK else f"`{name}`",
            str(len(each[0]["curve"])),
            f"{statistics.median(row['seconds'] for row in each):,.0f}",
            f"{speed:,.0f}",
            f"{statistics.median(seconds_to(target, row['curve']) for row in each):,.0f}",
            _accuracies([row["accuracy"] for row in each]),
            f"{max(row['megabytes'] for row in each):,.0f}",
            f"{speed * each[0]['training_flops'] / peaks[each[0]['precision']]:.0%} ({each[0]['precision']})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def matmul_peaks(rows: Groups) -> dict[str, float]:
    """The machine's operations per second in matrix products, by precision: medians over all rows that measured it."""
    measured = [row["matmul_peaks"] for each in rows.values() for row in each if "matmul_peaks" in row]
    return {name: statistics.median(peaks[name] for peaks in measured if name in peaks) for name in measured[0]}


def _accuracies(values: list[float]) -> str:
    middle = f"{statistics.median(values):.2%}"
    return f"{middle} ({min(values):.2%} to {max(values):.2%} with {len(values)} seeds)" if len(values) > 1 else middle


def seconds_to(accuracy: float, curve: list[dict[str, float]]) -> float:
    """Seconds to the end of the first epoch with at least that test accuracy; infinite where none has it."""
    return next((point["seconds"] for point in curve if point["accuracy"] >= accuracy), float("inf"))


def draw(rows: Groups, conditions: dict[str, str], path: Path) -> None:
    """Write a PNG: test accuracy after each epoch against seconds of training, a line per network and seed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    figure = Figure(figsize=(7.5, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (name, each), colour in zip(rows.items(), ("#777777", "#4477aa", "#ee6677", "#228833"), strict=False):
        for row in each:
            seconds, accuracies = ([point[key] for point in row["curve"]] for key in ("seconds", "accuracy"))
            label = name if row is each[0] else None
            axes.plot(seconds, accuracies, ".-", color=colour, label=label, linewidth=1.2, markersize=4)
        axes.annotate(f" {row['accuracy']:.1%}", (seconds[-1], accuracies[-1]), color=colour, va="center", fontsize=9)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="accuracy on the test split", ylim=(0.3, 1))
    axes.set_title(f"{conditions['data']}; {conditions['machine']}; a point per epoch", fontsize=10)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.margins(x=0.12)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Software": None})
