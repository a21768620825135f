"""Validate stage: refuse a data set that is not what it should be, before anything learns from it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.files import sha256_of, whole, write_json
from pipeline.params import Params, run_stage
from pipeline.reference import Reference, read_reference
from pipeline.splits import SPLIT_NAMES, Split, combined_sha256, read_split

Fraction = Annotated[float, Field(ge=0, le=1)]
PerChannel = Annotated[list[Fraction], Field(min_length=3, max_length=3)]


class ValidateParams(Params):
    train_images: int = Field(gt=0)
    test_images: int = Field(gt=0)
    channel_means: PerChannel
    channel_spreads: PerChannel
    tolerance: Fraction
    darkest: int = Field(ge=0, le=255)
    brightest: int = Field(ge=0, le=255)
    class_imbalance: Fraction
    minimum_image_spread: Fraction
    repeated_images: Fraction
    drift: Fraction


class Examined(NamedTuple):
    """By table, what was measured (a pandas DataFrame) and what came of each expectation (a list of `Outcome`)."""

    tables: dict[str, Any]
    outcomes: dict[str, list]


def validate(
    params: ValidateParams,
    train: Path,
    validation: Path,
    test: Path,
    reference: Path,
    report: Path,
    drift_report: Path,
    data_docs: Path,
) -> None:
    """Check the splits; write the verdict to `report`, what moved to `drift_report` and pages to `data_docs`.

    Raises:
        PipelineError: an expectation failed. The message names each with what was observed;
            what was written stays for reading.
    """
    paths = dict(zip(SPLIT_NAMES, (train, validation, test), strict=True))
    kept = read_reference(reference)
    splits = {name: read_split(path) for name, path in paths.items()}
    with (
        whole(report, drift_report, data_docs) as (report_draft, drift_draft, docs_draft),
        tempfile.TemporaryDirectory() as project,
    ):
        examined = examine(params, splits, kept, Path(project))
        write_json(report_draft, _verdict(examined, splits, paths))
        write_json(drift_draft, _drift_facts(examined, kept))
        write_docs(docs_draft, Path(project), examined, splits, kept)
    outcomes = [outcome for each in examined.outcomes.values() for outcome in each]
    if failures := [outcome for outcome in outcomes if not outcome.success]:
        raise PipelineError(_explain(failures, len(outcomes), examined, params.drift, reference, data_docs))
    images = sum(len(split.labels) for split in splits.values())
    print(f"validate: {images:,} images meet all {len(outcomes)} expectations; see {data_docs}/index.html")
    if kept is None:
        print(
            f"validate: {reference} keeps no reference to compare them with; `make reference` keeps what these are like"
        )


def examine(params: ValidateParams, splits: dict[str, Split], kept: Reference | None, project: Path) -> Examined:
    """Measure the splits and check all expectations, those on drift where a reference is kept.

    Args:
        project: an empty folder for Great Expectations.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read by the library when it is imported
    from pipeline.expectations import check, expectations, new_context

    expected = expectations(params, len(splits["train"].class_names))
    context, examined = new_context(project), Examined({}, {})
    for table, rows in measured(splits, kept):
        examined.tables[table] = rows
        examined.outcomes[table] = check(context, table, rows, expected[table])
        if table == "splits" and not all(outcome.success for outcome in examined.outcomes[table]):
            break  # images of another shape or type: nothing more can be measured on them
    return examined


def measured(splits: dict[str, Split], kept: Reference | None) -> Iterator[tuple[str, Any]]:
    """Names and contents of the tables that are checked, each measured when its turn comes."""
    from pipeline.drift import drift_table
    from pipeline.features import class_table, image_table, part_table, split_table

    yield "splits", split_table(splits)
    images, class_names = image_table(splits), splits["train"].class_names
    yield "images", images
    yield "parts", part_table(images)
    yield "classes", class_table(images, class_names)
    if kept is not None:
        yield "drift", drift_table(images, class_names.tolist(), kept.model_dump()["parts"])


def _verdict(examined: Examined, splits: dict[str, Split], paths: dict[str, Path]) -> dict[str, Any]:
    """Content of validate.json; it counts no expectations on drift, so it stays the same when a reference is kept."""
    count = sum(len(outcomes) for table, outcomes in examined.outcomes.items() if table != "drift")
    failed = sum(not outcome.success for outcomes in examined.outcomes.values() for outcome in outcomes)
    hashes = {name: sha256_of(path) for name, path in paths.items()}
    return {
        "success": not failed,
        "expectations": count,
        "failed": failed,
        "images": sum(len(split.labels) for split in splits.values()),
        "archive_sha256": splits["train"].archive_sha256,
        "splits_sha256": combined_sha256(hashes),
        "splits": hashes,
    }


def _drift_facts(examined: Examined, kept: Reference | None) -> dict[str, Any]:
    """Content of drift.json: by part and measure, the share of images that must have changed."""
    if kept is None or "drift" not in examined.tables:
        return {"compared": False}
    outcomes, rows = examined.outcomes["drift"], examined.tables["drift"]
    facts = {
        "compared": True,
        "reference": kept.name,
        "reference_sha256": kept.archive_sha256,
        "expectations": len(outcomes),
        "failed": sum(not outcome.success for outcome in outcomes),
    }
    for part, of_part in rows.groupby("part", sort=False):
        facts[part] = {name: round(drift, 6) for name, drift in zip(of_part["measure"], of_part["drift"], strict=True)}
    return facts


def write_docs(
    folder: Path, project: Path, examined: Examined, splits: dict[str, Split], kept: Reference | None
) -> None:
    """Our page, index.html, and beside it those of Great Expectations."""
    from pipeline.data_docs import draw_measures, write_page
    from pipeline.expectations import data_docs_folder

    original = folder / "great_expectations"
    shutil.copytree(data_docs_folder(project), original)
    reference = "none is kept; `make reference` keeps what these images are like, for later ones to be compared with"
    facts = {
        "archive": f"SHA-256 {splits['train'].archive_sha256}",
        "images": ", ".join(f"{len(split.labels):,} {name}" for name, split in splits.items()),
        "reference": f"{kept.name}, SHA-256 {kept.archive_sha256}" if kept else reference,
    }
    pictures = ""
    if "images" in examined.tables:
        pictures = draw_measures(examined.tables["images"], kept.parts["training"].quantiles if kept else None)
    write_page(folder / "index.html", facts, examined.outcomes, pictures, original)


def _explain(failures: list, count: int, examined: Examined, limit: float, reference: Path, data_docs: Path) -> str:
    lines = [f"{len(failures)} of {count} expectations failed:"]
    for failure in failures:
        wanted = f"{failure.expected} ({failure.kind})"
        lines.append(f"  {failure.reason}\n    expected: {wanted}\n    observed: {failure.observed}")
        if failure.keys:
            lines.append(f"    in: {', '.join(map(str, failure.keys))}")
    remedy = "if this data set is meant to be different, correct section `validate` of params.yaml"
    if "drift" in examined.tables and (words := moved(examined.tables["drift"], limit)):
        lines.append(f"Against the reference the data is otherwise: {words}.")
        remedy += f", and write {{}} into {reference} until `make reference` keeps this data's"
    lines.append(
        f"See {data_docs}/index.html. If the data is wrong, correct download.urls and download.sha256; {remedy}. "
        "Then run `dvc repro`."
    )
    return "\n".join(lines)


def moved(changes: Any, limit: float) -> str:
    """In words what moved, most first; what moved by less than a third of that is left out as its consequence."""
    moved = changes[changes["drift"] > max(limit, changes["drift"].max() / 3)]
    return "; ".join(dict.fromkeys(moved.sort_values("drift", ascending=False, kind="stable")["words"]))


if __name__ == "__main__":
    run_stage(validate, ValidateParams)
