"""The training rows as a table in Markdown, and as a plot of accuracy over time."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.variants import MEASURED
from pipeline.common.files import Json
from pipeline.data.image_grid import NO_VERSION, new_figure
from pipeline.models.networks import NETWORKS

TEXTBOOK = "the textbook script"
RESNET20 = "ResNet20v1 of Keras' example"
TORCH_NETWORK = "accurate"  # the network that PyTorch trains too
TORCH = f"{TORCH_NETWORK} in PyTorch"
COLOURS = {
    TEXTBOOK: "#777777",
    RESNET20: "#997700",
    "basic": "#4477aa",
    "fast": "#ee6677",
    "accurate": "#228833",
    "best": "#aa3377",
}
Groups = dict[str, list[Json]]  # the rows of each network, one per seed


def by_network(rows: dict[str, Json]) -> Groups:
    """The rows "network, seed N" by network: the peers first, then in the order of `MEASURED`."""
    order = (TEXTBOOK, RESNET20, *MEASURED)
    groups = {network: [row for name, row in rows.items() if name.startswith(f"{network}, ")] for network in order}
    return {network: each for network, each in groups.items() if each}


def torch_modes(rows: dict[str, Json]) -> Groups:
    """A row for each mode of PyTorch; none if it was not measured."""
    row = rows.get(TORCH, {"images_per_second": {}})
    return {
        f"`{TORCH_NETWORK}` in PyTorch, {mode}": [row | {"images_per_second": speed, "precision": mode.split(", ")[1]}]
        for mode, speed in row["images_per_second"].items()
    }


def torch_sentence(rows: Groups, modes: Groups) -> str:
    """The speed of the network compared with PyTorch's fastest mode; empty unless both were measured."""
    if TORCH_NETWORK not in rows or not modes:
        return ""
    ours = _median(rows[TORCH_NETWORK], "images_per_second")
    mode, (fastest,) = max(modes.items(), key=lambda item: item[1][0]["images_per_second"])
    return (
        f"`{TORCH_NETWORK}` trains at {ours:,.0f} images/s, {ours / fastest['images_per_second']:.2f} times PyTorch's "
        f"fastest mode ({mode.split(', ', 1)[1]}). PyTorch {fastest['torch']} runs the same layers on one batch that "
        "does not change, with Nesterov SGD, without augmentation and validation (`benchmarks/torch_peer.py`)."
    )


def training_table(rows: Groups, modes: Groups) -> str:
    """All figures, one line per network, then one line per mode of PyTorch."""
    target, peaks = target_accuracy(rows), matmul_peaks(rows)

    def speed_share(each: list[Json]) -> str:
        precision, flops = each[0]["precision"], each[0]["training_flops"]
        return f"{_median(each, 'images_per_second') * flops / peaks[precision]:.0%} ({precision})"

    columns: dict[str, Callable[[list[Json]], str]] = {
        "epochs": _of_training(lambda each: str(each[0]["epochs"])),
        "seconds of the fit": _of_training(lambda each: f"{_median(each, 'seconds'):,.0f}"),
        "images/s": lambda each: f"{_median(each, 'images_per_second'):,.0f}",
        f"seconds to {target:.1%} test accuracy": _of_training(lambda each: _seconds_to(target, each)),
        "test accuracy": _of_training(_accuracy_range),
        "peak memory, MB": _of_training(lambda each: f"{max(row['megabytes'] for row in each):,.0f}"),
        "share of the matrix product's speed": speed_share,
    }
    return markdown_table("network", columns, rows | modes)


def _of_training(cell: Callable[[list[Json]], str]) -> Callable[[list[Json]], str]:
    """The cell of rows of a whole training, and a dash for rows of single steps."""
    return lambda each: cell(each) if "curve" in each[0] else "-"


def short_table(rows: Groups) -> str:
    """The main figures, one line for the textbook script and one for each of the project's networks."""
    target, rows = target_accuracy(rows), {name: rows[name] for name in (TEXTBOOK, *NETWORKS) if name in rows}
    columns: dict[str, Callable[[list[Json]], str]] = {
        "training, seconds": lambda each: f"{_median(each, 'seconds'):,.0f}",
        f"seconds to {target:.1%} test accuracy": lambda each: _seconds_to(target, each),
        "test accuracy": lambda each: f"{_mean_accuracy(each):.2%}",
    }
    return markdown_table("network", columns, rows)


def markdown_table(title: str, columns: dict[str, Callable[[list[Json]], str]], rows: Groups) -> str:
    """A table with one line per network; each column is a function of the network's rows."""
    lines = [f"| {' | '.join([title, *columns])} |", "|---" * (1 + len(columns)) + "|"]
    for name, each in rows.items():
        network, *rest = name.split(" ")
        shown = " ".join([f"`{network}`" if network in NETWORKS else network, *rest])
        cells = [shown, *(cell(each) for cell in columns.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def target_accuracy(rows: Groups) -> float:
    """The test accuracy at the end of the textbook script."""
    return rows[TEXTBOOK][0]["accuracy"]


def matmul_peaks(rows: Groups) -> dict[str, float]:
    """Operations per second of this machine's matrix products, by precision: medians over all rows."""
    measured = [row["matmul_peaks"] for each in rows.values() for row in each if "matmul_peaks" in row]
    return {name: statistics.median(peaks[name] for peaks in measured if name in peaks) for name in measured[0]}


def _median(each: list[Json], key: str) -> float:
    return statistics.median(row[key] for row in each)


def _accuracy_range(each: list[Json]) -> str:
    values, mean = [row["accuracy"] for row in each], f"{_mean_accuracy(each):.2%}"
    return f"{mean} ({min(values):.2%} to {max(values):.2%} with {len(values)} seeds)" if len(values) > 1 else mean


def _mean_accuracy(each: list[Json]) -> float:
    return statistics.mean(row["accuracy"] for row in each)


def _seconds_to(accuracy: float, each: list[Json]) -> str:
    seconds = statistics.median(seconds_to(accuracy, row["curve"]) for row in each)
    return f"{seconds:,.0f}" if math.isfinite(seconds) else "not reached"


def seconds_to(accuracy: float, curve: list[dict[str, float]]) -> float:
    """Seconds to the end of the first epoch with at least that test accuracy; infinite if no epoch reaches it."""
    return next((point["seconds"] for point in curve if point["accuracy"] >= accuracy), float("inf"))


def draw(rows: Groups, conditions: dict[str, str], path: Path) -> None:
    """Write a PNG: test accuracy after each epoch over seconds of training, one line per network and seed."""
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    for name, each in rows.items():
        colour, style = COLOURS[name.removesuffix(" in float32")], ".-" if name in COLOURS else ".--"
        for row in each:
            seconds, accuracies = ([point[key] for point in row["curve"]] for key in ("seconds", "accuracy"))
            label = name if row is each[0] else None
            axes.plot(seconds, accuracies, style, color=colour, label=label, linewidth=1.2, markersize=4)
        end, place = (seconds[-1], accuracies[-1]), (4, 6 if name in COLOURS else -10)
        text = f"{_mean_accuracy(each):.1%}"
        axes.annotate(text, end, place, textcoords="offset points", color=colour, va="center", fontsize=9)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="accuracy on the test split", ylim=(0.3, 1))
    axes.set_title(f"{conditions['data']}; {conditions['machine']}; points follow epochs", fontsize=10)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.margins(x=0.12)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right", ncols=2)
    figure.savefig(path, dpi=130, metadata=NO_VERSION)
