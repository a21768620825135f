"""The results of a search: the table of trials, the best values, and two plots."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.data.image_grid import NO_VERSION, new_figure
from pipeline.tuning.settings import SEARCHED, TuneParams, epochs_of
from pipeline.tuning.trial_runs import FAILED, FINISHED, outcome_of

if TYPE_CHECKING:
    from ray.tune import ResultGrid

DPI = 110
ACCURACY = "validation_accuracy"
Row = dict[str, Any]  # of trials.csv


def rows_of(params: TuneParams, results: "ResultGrid") -> list[Row]:
    """One row per trial, the best one first; failed trials have no accuracy."""
    rows = []
    for result in results:  # type: ignore[attr-defined]  # it has a length and items
        chosen, figures = result.config or {}, result.metrics or {}
        outcome = outcome_of(params, chosen, figures if not result.error else None)
        done = {"epochs_trained": figures.get("epoch", 0), "seconds": round(figures.get("seconds", 0.0), 1)}
        best = figures["best_validation_accuracy"] if outcome != FAILED else ""
        values = {name: chosen[name] for name in SEARCHED if name in chosen}
        rows.append({"trial": figures.get("trial_id", ""), "outcome": outcome, ACCURACY: best} | done | values)
    return sorted(rows, key=lambda row: -1 if row[ACCURACY] == "" else row[ACCURACY], reverse=True)


def best_of(params: TuneParams, rows: list[Row]) -> Row:
    """The values of the finished trial with the highest validation accuracy; `PipelineError` if none finished."""
    finished = [row for row in rows if row["outcome"] == FINISHED]
    if not finished:
        raise PipelineError(
            f"none of the {len(rows)} trials finished: the lines above say why. Change section tune of params.yaml."
        )
    best = finished[0]
    chosen = {name: best[name] for name in SEARCHED if name in best}
    own = {"trial": best["trial"], ACCURACY: best[ACCURACY], "model": params.model}
    return own | chosen


def command_of(best: Row) -> str:
    """The command that trains with the best values in the pipeline."""
    values = {name: best[name] for name in ("model", *SEARCHED) if name in best}
    return " ".join(["dvc exp run", *(f"-S train.{name}={_yaml(value)}" for name, value in values.items())])


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.6f}" if isinstance(value, float) else str(value)


def draw_parallel_coordinates(params: TuneParams, rows: list[Row], path: Path) -> None:
    """One line per trial through its values and its accuracy, coloured by accuracy; dotted if it was stopped."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    shown = [row for row in rows if row[ACCURACY] != ""]
    names = [name for name in SEARCHED if rows and name in rows[0]] + [ACCURACY]
    figure = new_figure(1.6 * len(names) + 1, 4.5)
    axes = figure.subplots()
    accuracies = [row[ACCURACY] for row in shown]
    norm = Normalize(min(accuracies), max(accuracies) + 1e-9)
    for row in reversed(shown):  # the best one on top
        heights = [_height(params, name, row[name], accuracies) for name in names]
        style = "-" if row["outcome"] == FINISHED else ":"
        axes.plot(range(len(names)), heights, style, color=colormaps["viridis"](norm(row[ACCURACY])))
    for position, name in enumerate(names):
        axes.axvline(position, color="grey", linewidth=0.8)
        low, high = _limits(params, name, accuracies)
        for height, value in ((-0.04, low), (1.04, high)):
            axes.text(position, height, f"{value:.3g}", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.tick_params(axis="x", length=0, pad=12)
    axes.set(ylim=(-0.08, 1.08), title="Trials: values and validation accuracy (dotted: stopped early)")
    axes.yaxis.set_visible(False)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.savefig(path, dpi=DPI, metadata=NO_VERSION)


def _limits(params: TuneParams, name: str, accuracies: list[float]) -> tuple[float, float]:
    ends = accuracies if name == ACCURACY else getattr(params, name).ends()
    return float(min(ends)), float(max(ends))


def _height(params: TuneParams, name: str, value: float, accuracies: list[float]) -> float:
    """The position of a value on its axis, 0 to 1."""
    low, high = _limits(params, name, accuracies)
    if name != ACCURACY and getattr(params, name).log:
        low, high, value = np.log(low), np.log(high), np.log(value)
    return (float(value) - low) / (high - low) if high > low else 0.5


def draw_accuracy_against_time(params: TuneParams, rows: list[Row], path: Path) -> None:
    """One point per trial."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    for outcome, marker in ((FINISHED, "o"), ("stopped early", "x")):
        found = [row for row in rows if row["outcome"] == outcome]
        if found:
            seconds, accuracies = ([row[key] for row in found] for key in ("seconds", ACCURACY))
            axes.scatter(seconds, accuracies, marker=marker, label=f"{outcome}, {len(found)}")
    axes.set(xlabel="seconds of training", ylabel="validation accuracy", title=f"Trials of {params.model}")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=DPI, metadata=NO_VERSION)


def describe(params: TuneParams, rows: list[Row], best: Row) -> str:
    """The outcome of the search as text."""
    counts = {
        outcome: sum(row["outcome"] == outcome for row in rows) for outcome in (FINISHED, "stopped early", FAILED)
    }
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    epochs = epochs_of(params, {name: best[name] for name in SEARCHED if name in best})
    return "\n".join(
        [
            f"tune: {len(rows)} trials: {outcomes}",
            f"tune: best validation accuracy {best[ACCURACY]:.4f} in {epochs} epochs. It is the highest of many, so it is "
            "optimistic; this command trains with these values in the pipeline:",
            f"  {command_of(best)}",
        ]
    )
