"""Validate stage: refuse a data set that is not what it should be, before anything learns from it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.files import sha256_of, whole, write_json
from pipeline.params import Params, run_stage
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


def validate(params: ValidateParams, train: Path, validation: Path, test: Path, report: Path, data_docs: Path) -> None:
    """Check the splits; write the verdict to `report` and Great Expectations' pages to `data_docs`.

    Raises:
        PipelineError: an expectation failed. The message names each with what was observed;
            `report` and `data_docs` stay for reading.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read by the library when it is imported
    from pipeline.expectations import check, data_docs_folder, expectations, new_context

    paths = dict(zip(SPLIT_NAMES, (train, validation, test), strict=True))
    splits = {name: read_split(path) for name, path in paths.items()}
    images = sum(len(split.labels) for split in splits.values())
    expected = expectations(params, len(splits["train"].class_names))
    with whole(report, data_docs) as (report_draft, docs_draft), tempfile.TemporaryDirectory() as project:
        context, count, failures = new_context(Path(project)), 0, []
        for table, rows in tables(splits):
            failures += check(context, table, rows, expected[table])
            count += len(expected[table])
            if table == "splits" and failures:
                break  # images of another shape or type: nothing more can be measured on them
        shutil.copytree(data_docs_folder(Path(project)), docs_draft)
        hashes = {name: sha256_of(path) for name, path in paths.items()}
        write_json(
            report_draft,
            {
                "success": not failures,
                "expectations": count,
                "failed": len(failures),
                "images": images,
                "archive_sha256": splits["train"].archive_sha256,
                "splits_sha256": combined_sha256(hashes),
                "splits": hashes,
            },
        )
    if failures:
        raise PipelineError(_explain(failures, count, data_docs))
    print(f"validate: {images:,} images meet all {count} expectations; see {data_docs}/index.html")


def tables(splits: dict[str, Split]) -> Iterator[tuple[str, Any]]:
    """Names and contents of the tables that are checked, each measured when its turn comes."""
    from pipeline.features import class_table, image_table, part_table, split_table

    yield "splits", split_table(splits)
    images = image_table(splits)
    yield "images", images
    yield "parts", part_table(images)
    yield "classes", class_table(images, splits["train"].class_names)


def _explain(failures: list, count: int, data_docs: Path) -> str:
    lines = [f"{len(failures)} of {count} expectations failed:"]
    for failure in failures:
        lines.append(f"  {failure.reason}\n    expected: {failure.expected}\n    observed: {failure.observed}")
        if failure.keys:
            lines.append(f"    in: {', '.join(map(str, failure.keys))}")
    lines.append(
        f"See {data_docs}/index.html. If the data is wrong, correct download.urls and download.sha256; if this data set is "
        "meant to be different, correct section `validate` of params.yaml. Then run `dvc repro`."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    run_stage(validate, ValidateParams)
