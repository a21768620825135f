"""What a data set must look like: Great Expectations over the tables of pipeline/features.py."""

from pathlib import Path
from typing import Any, NamedTuple

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as expect
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.row_conditions import Column

from pipeline.appearance import MEASURES
from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.drift import LABEL_MEASURES
from pipeline.features import CHANNEL_NAMES

# The column that names a row in a report of what is wrong with it.
KEYS = {"images": "archive_index", "splits": "split", "parts": "part", "classes": "class_name", "drift": "part"}
SHOWN = 5  # offending rows that are named
SOURCE = "splits"  # name of the data source in Data Docs


class Outcome(NamedTuple):
    """What came of an expectation: why it is there, what it wants (in words, and as Great Expectations calls
    it), what was seen, and up to five keys of offending rows.
    """

    success: bool
    reason: str
    expected: str
    kind: str
    observed: str
    keys: list


def expectations(params, classes: int) -> dict[str, list]:
    """By table, the expectations; each one's notes say why it is there.

    Args:
        params: a `ValidateParams`, section `validate` of params.yaml.
        classes: how many there are.
    """
    return _absolute(params, classes) | {
        "drift": [_share_changed(name, params.drift, measure.why) for name, measure in MEASURES.items()]
        + [_share_changed(name, params.drift, why) for name, why in LABEL_MEASURES.items()]
    }


def _absolute(params, classes: int) -> dict[str, list]:
    """Those that need no reference: section `validate` of params.yaml states the values."""
    near = params.tolerance
    means = zip(CHANNEL_NAMES, params.channel_means, strict=True)
    spreads = zip(CHANNEL_NAMES, params.channel_spreads, strict=True)
    red_minus_blue = params.channel_means[0] - params.channel_means[2]
    images = [
        _rows("training", params.train_images, "No training image was lost or added."),
        _rows("test", params.test_images, "No test image was lost or added."),
        expect.ExpectColumnValuesToBeUnique(column="archive_index", notes="No image is in two splits or twice in one."),
        _between(
            "archive_index",
            0,
            params.train_images + params.test_images - 1,
            "Every image can be traced to the archive.",
        ),
        _in_set("label", list(range(classes)), "Every label has a class name."),
        _between("spread", params.minimum_image_spread, None, "No image is constant (all black, lost)."),
        _between(
            "splits_with_these_pixels", 1, 1, "No image occurs in two splits: a test image seen in training lies."
        ),
        _between(
            "images_with_these_pixels",
            1,
            1,
            "Hardly an image occurs twice: what is repeated counts twice in training and in scores.",
            mostly=1 - params.repeated_images,
        ),
    ]
    splits = [
        _between("images", 1, None, "No split is empty."),
        _in_set("dtype", ["uint8"], "Pixels are bytes; scaling is the model's work."),
        _in_set("height", [SIDE], "Images have the height that the networks expect."),
        _in_set("width", [SIDE], "Images have the width that the networks expect."),
        _in_set("channels", [CHANNELS], "Images have a red, a green and a blue channel."),
    ]
    parts = [
        _between("lowest", 0, params.darkest, "The value range is in use: not brightened or rescaled."),
        _between("highest", params.brightest, 255, "The value range is in use: not darkened or scaled to 0..1."),
        *(_near(name, value, near, f"The mean of {name} is this data set's.") for name, value in means),
        *(_near(f"{name}_spread", value, near, f"The spread of {name} is this data set's.") for name, value in spreads),
        _near("red_minus_blue", red_minus_blue, near, "The channels are in the order red, green, blue."),
    ]
    imbalance = params.class_imbalance
    balanced = [
        _between("images", 1, None, "No class is missing."),
        _between(
            "relative_share",
            1 - imbalance,
            1 + imbalance,
            "The classes are balanced, so accuracy can be read as it is.",
        ),
    ]
    return {"images": images, "splits": splits, "parts": parts, "classes": balanced}


def _between(column: str, low: float | None, high: float | None, notes: str, **more):
    return expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, notes=notes, **more)


def _near(column: str, value: float, tolerance: float, notes: str):
    return _between(column, round(value - tolerance, 6), round(value + tolerance, 6), notes)


def _in_set(column: str, values: list, notes: str):
    return expect.ExpectColumnValuesToBeInSet(column=column, value_set=values, notes=notes)


def _rows(part: str, count: int, notes: str):
    return expect.ExpectTableRowCountToEqual(value=count, notes=notes, **_where("part", part))


def _share_changed(measure: str, most: float, notes: str):
    return _between("drift", None, most, notes, **_where("measure", measure))


def _where(column: str, value: str) -> dict[str, Any]:
    """The rows that an expectation is about; `meta` says it again in a form that can be read back."""
    return {"row_condition": Column(column) == value, "meta": {"where": [column, value]}}


def new_context(project: Path) -> Any:
    """A context of Great Expectations in the empty folder `project`, without progress bars."""
    context = gx.get_context(mode="file", project_root_dir=project)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.data_sources.add_pandas(SOURCE)
    return context


def check(context: Any, table: str, rows: pd.DataFrame, expected: list) -> list[Outcome]:
    """Run the expectations on a table and add its page to Data Docs."""
    batch = context.data_sources.get(SOURCE).add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(table, expectations=expected))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=suite))
    checkpoint = gx.Checkpoint(
        name=table,
        validation_definitions=[definition],
        actions=[gx.checkpoint.UpdateDataDocsAction(name="data_docs")],
        result_format={
            "result_format": "SUMMARY",
            "partial_unexpected_count": SHOWN,
            "unexpected_index_column_names": [KEYS[table]],
        },
    )
    run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": rows})
    (validation,) = run.run_results.values()
    return [_outcome(table, rows, result) for result in validation.results]


def data_docs_folder(project: Path) -> Path:
    """Where Great Expectations writes its own pages, index.html first."""
    return project / "gx/uncommitted/data_docs/local_site"


def _outcome(table: str, rows: pd.DataFrame, result) -> Outcome:
    config, seen = result.expectation_config, result.result
    keys = [row[KEYS[table]] for row in seen.get("partial_unexpected_index_list") or []]
    wanted, kind = _wanted(config.kwargs, config.meta or {}), f"{config.type} on {table}"
    return Outcome(bool(result.success), config.notes, wanted, kind, _observed(table, rows, result), keys[:SHOWN])


def _wanted(limits: dict[str, Any], meta: dict[str, Any]) -> str:
    """What an expectation wants, in words."""
    column, low, high = limits.get("column", ""), limits.get("min_value"), limits.get("max_value")
    if "value" in limits:
        words = f"{limits['value']:,} rows"
    elif "value_set" in limits:
        words = f"{column} one of {', '.join(map(str, limits['value_set']))}"
    elif low is None and high is None:
        words = f"{column} different in every row"
    elif low == high:
        words = f"{column} {low:g}"
    elif high is None or low is None:
        words = f"{column} at least {low:g}" if high is None else f"{column} at most {high:g}"
    else:
        words = f"{column} {low:.10g} to {high:.10g}"
    if "mostly" in limits and limits["mostly"] < 1:
        words += f" in {100 * limits['mostly']:.6g}% of the rows or more"
    return words + (f" where {meta['where'][0]} is {meta['where'][1]}" if "where" in meta else "")


def _observed(table: str, rows: pd.DataFrame, result) -> str:
    """What was seen: of offending rows their values, else the range of the column."""
    config, seen = result.expectation_config, result.result
    if "where" in (config.meta or {}):
        column, value = config.meta["where"]
        rows = rows[rows[column] == value]
    if table == "drift":
        return "; ".join(rows["seen"])
    if "observed_value" in seen:
        return f"{seen['observed_value']:,}"
    values = rows[config.kwargs["column"]] if result.success else seen.get("partial_unexpected_list", [])
    if result.success and pd.api.types.is_numeric_dtype(values):
        return " to ".join(dict.fromkeys((_shown(values.min()), _shown(values.max()))))
    return ", ".join(map(_shown, list(dict.fromkeys(values) if result.success else values)[:SHOWN]))


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
