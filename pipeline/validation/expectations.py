"""What a data set must look like: Great Expectations over the tables of `pipeline.validation.tables`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.row_conditions import Column

from pipeline.data.cifar10 import CHANNELS
from pipeline.data.pictures import SIDES
from pipeline.validation.drift import STATEMENTS
from pipeline.validation.settings import ValidateParams
from pipeline.validation.tables import CHANNEL_NAMES

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context import FileDataContext
    from great_expectations.expectations.expectation import Expectation
    from great_expectations.expectations.row_conditions import Condition

# The column that identifies a row of each table in messages.
KEYS = {"images": "archive_index", "splits": "split", "parts": "part", "classes": "class_name", "drift": "part"}
NO_DATE = datetime(1980, 1, 1, tzinfo=UTC)  # of a run: equal data gives equal pages
SHOWN_ROWS = 5  # unexpected rows in a message
SHOWN_VALUES = 20  # allowed values in a message
DATA_SOURCE = "splits"  # name in Data Docs
DATA_DOCS = "gx/uncommitted/data_docs/local_site"  # folder in a context's project, with index.html


class Outcome(NamedTuple):
    """The result of one expectation, in words; `kind` is its name in Great Expectations, and the table.

    rows: up to `SHOWN_ROWS` unexpected rows; empty if there are none, or if `observed` names them.
    """

    success: bool
    statement: str
    expected: str
    observed: str
    kind: str
    rows: str


def expectations(params: ValidateParams, classes: int, side: int) -> dict[str, list["Expectation"]]:
    """The expectations for each table; the notes of each are its statement in words.

    Args:
        classes: number of classes.
        side: height and width of the training images, in pixels; one outside of `SIDES` meets no expectation.
    """
    counts = {"training": params.train_images, "test": params.test_images}
    means = dict(zip(CHANNEL_NAMES, params.channel_means, strict=True))
    spreads = dict(zip(CHANNEL_NAMES, params.channel_spreads, strict=True))
    near, section = params.tolerance, "section validate of params.yaml"
    new = "No image occurs in two splits: test images are new to the model."
    unique = "No image is in two splits or twice in one."
    order = "The channels are in the order red, green, blue."
    full_range = "The full range is used: images are not"
    repeated = "Almost no image occurs twice: a repeated image counts twice in training and in metrics."
    return {
        "splits": [
            _between("images", 1, None, "No split is empty."),
            _in_set("dtype", ["uint8"], "Pixels are bytes, because the model scales them."),
            _of_side("height", side, "Images have the height that the networks expect."),
            _of_side("width", side, "Images have the width that the networks expect."),
            _in_set("channels", [CHANNELS], "Images have a red, a green and a blue channel."),
        ],
        "images": [
            *(
                gxe.ExpectTableRowCountToEqual(
                    value=count, notes=f"No {part} image was lost or added.", **_where("part", part)
                )
                for part, count in counts.items()
            ),
            gxe.ExpectColumnValuesToBeUnique(column="archive_index", notes=unique),
            _between("archive_index", 0, sum(counts.values()) - 1, "Every image has a position in the archive."),
            _in_set("label", list(range(classes)), "Every label has a class name."),
            _between("spread", params.minimum_image_spread, None, "No image is constant, for example all black."),
            _between("splits_with_these_pixels", 1, 1, new),
            _between("images_with_these_pixels", 1, 1, repeated, mostly=1 - params.repeated_images),
        ],
        "parts": [
            _between("lowest", 0, params.darkest, f"{full_range} brightened or rescaled."),
            _between("highest", params.brightest, 255, f"{full_range} darkened or scaled to 0..1."),
            *(_near(name, mean, near, f"The mean of {name} matches {section}.") for name, mean in means.items()),
            *(
                _near(f"{name}_spread", spread, near, f"The standard deviation of {name} matches {section}.")
                for name, spread in spreads.items()
            ),
            _near("red_minus_blue", means["red"] - means["blue"], near, order),
        ],
        "classes": [
            _between("images", 1, None, "No class is missing."),
            *_balanced(params.class_imbalance),
        ],
        "drift": [
            _between("drift", None, params.drift, statement, **_where("statistic", name))
            for name, statement in STATEMENTS.items()
        ],
    }


def _between(column: str, low: float | None, high: float | None, notes: str, **options: object) -> "Expectation":
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, notes=notes, **options)


def _near(column: str, value: float, tolerance: float, notes: str) -> "Expectation":
    return _between(column, round(value - tolerance, 6), round(value + tolerance, 6), notes)


def _of_side(column: str, side: int, notes: str) -> "Expectation":
    """All splits have the side of the training images, if networks can have it."""
    return _in_set(column, [side], notes) if side in SIDES else _between(column, SIDES[0], SIDES[-1], notes)


def _balanced(imbalance: float | None) -> list["Expectation"]:
    notes = "The classes are balanced, so accuracy needs no weights."
    return [] if imbalance is None else [_between("relative_share", 1 - imbalance, 1 + imbalance, notes)]


def _in_set(column: str, values: list[int] | list[str], notes: str) -> "Expectation":
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=values, notes=notes)


def _where(column: str, value: str) -> dict[str, "Condition | dict[str, list[str]]"]:
    """Limits an expectation to some rows; `meta` repeats the condition in a form that `_outcome` can read."""
    return {"row_condition": Column(column) == value, "meta": {"where": [column, value]}}


def new_context(project: Path) -> "FileDataContext":
    """A context of Great Expectations in the empty folder `project`, without progress bars."""
    context = gx.get_context(mode="file", project_root_dir=project)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.data_sources.add_pandas(DATA_SOURCE)
    return context


def check(context: "FileDataContext", table: str, rows: pd.DataFrame, expected: list["Expectation"]) -> list[Outcome]:
    """Check the expectations on a table and add its page to Data Docs."""
    batch = context.data_sources.get(DATA_SOURCE).add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(table, expectations=expected))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=suite))
    checkpoint = gx.Checkpoint(
        name=table,
        validation_definitions=[definition],
        actions=[gx.checkpoint.UpdateDataDocsAction(name="data_docs")],
        result_format={
            "result_format": "SUMMARY",
            "partial_unexpected_count": SHOWN_ROWS,
            "unexpected_index_column_names": [KEYS[table]],
        },
    )
    run = context.checkpoints.add(checkpoint).run({"dataframe": rows}, run_id=RunIdentifier(run_time=NO_DATE))
    (validation,) = run.run_results.values()
    return [_outcome(table, rows, result) for result in validation.results]


def _outcome(table: str, rows: pd.DataFrame, result: "ExpectationValidationResult") -> Outcome:
    config, key = result.expectation_config, KEYS[table]
    column, value = (config.meta or {}).get("where", ("", ""))
    unexpected = [str(row[key]) for row in result.result.get("partial_unexpected_index_list") or []]
    return Outcome(
        success=bool(result.success),
        statement=config.notes,
        expected=_describe_limits(config.kwargs) + (f" where {column} is {value}" if column else ""),
        observed=_describe_observed(table, rows[rows[column] == value] if column else rows, result),
        kind=f"{config.type} on {table}",
        rows=f"{key} {', '.join(unexpected[:SHOWN_ROWS])}" if unexpected and table != "drift" else "",
    )


def _describe_limits(limits: Mapping[str, object]) -> str:
    """The arguments of an expectation in words."""
    low, high, mostly = limits.get("min_value"), limits.get("max_value"), limits.get("mostly")
    if "value" in limits:
        return f"{limits['value']:,} rows"
    if isinstance(values := limits.get("value_set"), list):
        words = f"one of {', '.join(_shown(values))}"
    elif low is None and high is None:
        words = "different in every row"
    elif low is None or high is None:
        words = f"at least {low:g}" if high is None else f"at most {high:g}"
    else:
        words = f"{low:g}" if low == high else f"{low:.10g} to {high:.10g}"
    share = f" in {100 * mostly:.6g}% of the rows or more" if isinstance(mostly, float) and mostly < 1 else ""
    return f"{limits['column']} {words}{share}"


def _shown(values: list[int] | list[str]) -> list[str]:
    """The values as text; of many values the first ones and the last."""
    words = list(map(str, values))
    return words if len(words) <= SHOWN_VALUES else [*words[:3], "…", words[-1]]


def _describe_observed(table: str, rows: pd.DataFrame, result: "ExpectationValidationResult") -> str:
    """The unexpected values, or the range of the column if all values are as expected."""
    details = result.result
    if table == "drift":
        return "; ".join(rows["summary"])
    if "observed_value" in details:
        return f"{details['observed_value']:,}"
    if not result.success:
        return ", ".join(map(_format, details.get("partial_unexpected_list", [])[:SHOWN_ROWS]))
    values = rows[result.expectation_config.kwargs["column"]]
    if pd.api.types.is_numeric_dtype(values):
        return " to ".join(dict.fromkeys((_format(values.min()), _format(values.max()))))
    return ", ".join(map(_format, list(dict.fromkeys(values))[:SHOWN_ROWS]))


def _format(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
