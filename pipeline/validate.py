"""Validate stage: check the splits with Great Expectations before a model is trained on them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.common.environment import ignore_user_settings
from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, atomic_outputs, sha256_of, write_json
from pipeline.common.params import run_stage
from pipeline.data.splits import SPLIT_NAMES, Split, Verdict, combined_sha256, read_split
from pipeline.validation.reference import Reference, read_reference
from pipeline.validation.settings import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.validation.expectations import Outcome


class Results(NamedTuple):
    """By table name: the table, and the outcomes of its expectations."""

    tables: dict[str, "pd.DataFrame"]
    outcomes: dict[str, list["Outcome"]]

    @property
    def failed(self) -> list["Outcome"]:
        """The outcomes of failed expectations on all tables."""
        return [outcome for outcomes in self.outcomes.values() for outcome in outcomes if not outcome.success]


def validate(
    params: ValidateParams,
    train_split: Path,
    validation_split: Path,
    test_split: Path,
    reference: Path,
    verdict: Path,
    drift: Path,
    data_docs: Path,
) -> None:
    """Check the splits; write the verdict, the drift figures and Data Docs.

    Raises:
        PipelineError: an expectation failed. The message lists each with what was observed; the outputs are kept.
    """
    paths = dict(zip(SPLIT_NAMES, (train_split, validation_split, test_split), strict=True))
    earlier = read_reference(reference)
    splits = {name: read_split(path) for name, path in paths.items()}
    with (
        atomic_outputs(verdict, drift, data_docs) as (verdict_draft, drift_draft, docs_draft),
        tempfile.TemporaryDirectory() as project,
    ):
        results = check_splits(params, splits, earlier, Path(project))
        facts = _verdict(results, splits, paths)
        write_json(verdict_draft, facts)
        write_json(drift_draft, _drift_figures(results, earlier))
        _write_data_docs(docs_draft, Path(project), results, splits, earlier)
    if results.failed:
        raise PipelineError(_explain(results, params.drift, reference, data_docs))
    count = sum(map(len, results.outcomes.values()))
    print(f"validate: {facts['images']:,} images meet all {count} expectations; see {data_docs}/index.html")
    if earlier is None:
        print(f"validate: {reference} contains no reference, so drift was not checked; `make reference` writes one")


def check_splits(
    params: ValidateParams, splits: dict[str, Split], reference: Reference | None, project: Path
) -> Results:
    """Check all expectations on the splits; those on drift only if there is a reference.

    Args:
        project: an empty folder for Great Expectations.
    """
    ignore_user_settings()
    os.environ["TZ"] = "UTC"  # of the date in the pages of Great Expectations
    from pipeline.validation.expectations import check, expectations, new_context

    expected = expectations(params, len(splits["train"].class_names), splits["train"].side)
    context, results = new_context(project), Results({}, {})
    for name, table in build_tables(splits, reference):
        results.tables[name] = table
        results.outcomes[name] = check(context, name, table, expected[name])
        if name == "splits" and results.failed:
            break  # images of another shape or type: the other tables cannot be computed
    return results


def build_tables(splits: dict[str, Split], reference: Reference | None) -> Iterator[tuple[str, "pd.DataFrame"]]:
    """Names and contents of the tables to check; each is computed when it is its turn."""
    from pipeline.validation.drift import drift_table
    from pipeline.validation.tables import class_table, image_table, part_table, split_table

    yield "splits", split_table(splits)
    images, class_names = image_table(splits), splits["train"].class_names
    yield "images", images
    yield "parts", part_table(images)
    yield "classes", class_table(images, class_names)
    if reference is not None:
        yield "drift", drift_table(images, class_names.tolist(), reference.parts)


def _verdict(results: Results, splits: dict[str, Split], paths: dict[str, Path]) -> Verdict:
    """Content of validate.json. It does not count expectations on drift, so a passing reference does not change it."""
    hashes = {name: sha256_of(path) for name, path in paths.items()}
    return {
        "success": not results.failed,
        "expectations": sum(len(outcomes) for name, outcomes in results.outcomes.items() if name != "drift"),
        "failed": len(results.failed),
        "images": sum(len(split.labels) for split in splits.values()),
        "archive_sha256": splits["train"].archive_sha256,
        "is_cifar10": splits["train"].is_cifar10,
        "splits_sha256": combined_sha256(hashes),
        "splits": hashes,
    }


def _drift_figures(results: Results, reference: Reference | None) -> Json:
    """Content of drift.json: by part and statistic, the share of images that must have changed."""
    if reference is None or "drift" not in results.tables:
        return {"compared": False}
    outcomes, parts = results.outcomes["drift"], results.tables["drift"].groupby("part", sort=False)
    return {
        "compared": True,
        "reference": reference.name,
        "reference_sha256": reference.archive_sha256,
        "expectations": len(outcomes),
        "failed": sum(not outcome.success for outcome in outcomes),
        **{part: rows.set_index("statistic")["drift"].round(6).to_dict() for part, rows in parts},
    }


def _write_data_docs(
    folder: Path, project: Path, results: Results, splits: dict[str, Split], reference: Reference | None
) -> None:
    """Write our page index.html, and the pages of Great Expectations in a folder beside it."""
    from pipeline.validation.data_docs import PAGES, draw_histograms, number_ids, write_page
    from pipeline.validation.expectations import DATA_DOCS

    shutil.copytree(project / DATA_DOCS, folder / PAGES)
    number_ids(folder / PAGES)
    facts = {
        "archive": f"SHA-256 {splits['train'].archive_sha256}",
        "images": ", ".join(f"{len(split.labels):,} {name}" for name, split in splits.items()),
        "reference": f"{reference.name}, SHA-256 {reference.archive_sha256}"
        if reference
        else "none; `make reference` writes one, with which later data is compared",
    }
    quantiles = reference.parts["training"].quantiles if reference else None
    images = results.tables.get("images")
    histograms = {} if images is None else draw_histograms(images, quantiles)
    write_page(folder, facts, results.outcomes, histograms)


def _explain(results: Results, limit: float, reference: Path, data_docs: Path) -> str:
    lines = [f"{len(results.failed)} of {sum(map(len, results.outcomes.values()))} expectations failed:"]
    for outcome in results.failed:
        lines += [f"  {outcome.statement}", f"    expected: {outcome.expected} ({outcome.kind})"]
        lines += [f"    observed: {outcome.observed}", *([f"    rows: {outcome.rows}"] if outcome.rows else [])]
    remedy = "If this is meant to be another data set, correct section `validate` of params.yaml"
    if "drift" in results.tables and (words := describe_drift(results.tables["drift"], limit)):
        lines.append(f"Changes from the reference: {words}.")
        remedy += f" and write {{}} to {reference}, until `make reference` writes the new statistics"
    lines.append(
        f"See {data_docs}/index.html. If the data is wrong, correct download.urls and download.sha256. {remedy}. "
        "Then run `dvc repro`."
    )
    return "\n".join(lines)


def describe_drift(table: "pd.DataFrame", limit: float) -> str:
    """What changed, in words, the largest drift first; `table` is from `drift.drift_table`.

    Drift below a third of the largest is left out, because it is probably a consequence of it.
    """
    changes = table[table["drift"] > max(limit, table["drift"].max() / 3)]
    return "; ".join(dict.fromkeys(changes.sort_values("drift", ascending=False, kind="stable")["words"]))


if __name__ == "__main__":
    run_stage(validate, ValidateParams)
