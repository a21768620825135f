"""What a data set must look like: Great Expectations over the tables of pipeline/features.py."""

from pathlib import Path
from typing import Any, NamedTuple

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as expect
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.row_conditions import Column

from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.features import CHANNEL_NAMES

# The column that names a row in a report of what is wrong with it.
KEYS = {"images": "archive_index", "splits": "split", "parts": "part", "classes": "class_name"}
SHOWN = 5  # offending rows that are named
SOURCE = "splits"  # name of the data source in Data Docs


class Failure(NamedTuple):
    """A failed expectation: why it is there, on what, what was seen, and up to five keys of offending rows."""

    reason: str
    expected: str
    observed: Any
    keys: list


def expectations(params, classes: int) -> dict[str, list]:
    """By table, the expectations; each one's notes say why it is there.

    Args:
        params: a `ValidateParams`, section `validate` of params.yaml.
        classes: how many there are.
    """
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


def _between(column: str, low: float | None, high: float | None, notes: str):
    return expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, notes=notes)


def _near(column: str, value: float, tolerance: float, notes: str):
    return _between(column, round(value - tolerance, 6), round(value + tolerance, 6), notes)


def _in_set(column: str, values: list, notes: str):
    return expect.ExpectColumnValuesToBeInSet(column=column, value_set=values, notes=notes)


def _rows(part: str, count: int, notes: str):
    return expect.ExpectTableRowCountToEqual(value=count, row_condition=Column("part") == part, notes=notes)


def new_context(project: Path) -> Any:
    """A context of Great Expectations in the empty folder `project`, without progress bars."""
    context = gx.get_context(mode="file", project_root_dir=project)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.data_sources.add_pandas(SOURCE)
    return context


def check(context: Any, table: str, rows: pd.DataFrame, expected: list) -> list[Failure]:
    """Run the expectations on a table, add its page to Data Docs, and give those that failed."""
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
    return [_failure(table, result) for result in validation.results if not result.success]


def data_docs_folder(project: Path) -> Path:
    """Where Great Expectations writes its pages, index.html first."""
    return project / "gx/uncommitted/data_docs/local_site"


def _failure(table: str, result) -> Failure:
    config, seen = result.expectation_config, result.result
    limits = {
        key: value
        for key, value in config.kwargs.items()
        if key in ("column", "min_value", "max_value", "value", "value_set")
    }
    expected = f"{config.type} on {table}: " + ", ".join(f"{key} {value}" for key, value in limits.items())
    observed = seen.get("observed_value", seen.get("partial_unexpected_list"))
    if isinstance(observed, list):
        observed = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in observed[:SHOWN])
    keys = [row[KEYS[table]] for row in seen.get("partial_unexpected_index_list") or []]
    return Failure(config.notes, expected, observed, keys[:SHOWN])
