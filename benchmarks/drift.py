"""Section drift of `make bench`: which changed data sets validation refuses, compared with a reference."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from benchmarks.changed_data import DataSet, data_sets
from pipeline.common.files import Json
from pipeline.common.params import read_params
from pipeline.data.archive import Archive, read_archive
from pipeline.data.splits import SPLIT_NAMES, Split
from pipeline.prepare import PrepareParams, choose_validation, split_archive
from pipeline.validate import check_splits, describe_drift
from pipeline.validation.drift import chance_bound, drift_table, summarize
from pipeline.validation.image_statistics import STATISTICS
from pipeline.validation.reference import Reference
from pipeline.validation.settings import ValidateParams
from pipeline.validation.tables import image_table

DRAWS = 20  # random halves that are compared with the other half
SHA256 = "of the benchmark"  # the data sets have no archive file


def measure_drift(archive: Path, name: str) -> Json:
    """The result of validation for each changed data set, and the drift between halves of the archive."""
    params, data = ValidateParams.of_section("validate", read_params()["validate"]), read_archive(archive)
    images = image_table(_split(data, seed=0))
    reference = Reference(name=name, archive_sha256=SHA256, parts=summarize(images, data.class_names))
    results: Json = {"limit": params.drift, "halves": compare_halves(images, data.class_names)}
    for group, title, data_set in data_sets():
        row = check_data_set(params, data, data_set, reference)
        print(f"bench: {group}: {title}: {_verdict(row)}; {row['words']}", flush=True)
        results.setdefault(group, {})[title] = row
    return results


def _split(data: Archive, seed: int) -> dict[str, Split]:
    params = PrepareParams(validation_images=len(data.train_labels) // 10, seed=seed)
    validation = choose_validation(data.train_labels, int(data.train_labels.max()) + 1, params)
    return dict(zip(SPLIT_NAMES, split_archive(data, validation, SHA256, Path()), strict=True))


def check_data_set(params: ValidateParams, data: Archive, data_set: DataSet, reference: Reference) -> Json:
    """Whether validation refuses the data set, the statements of the failed expectations, and the drift."""
    changed = data_set.make(data, np.random.default_rng(0))
    if data_set.counted:
        counts = {"train_images": len(changed.train_labels), "test_images": len(changed.test_labels)}
        params = params.model_copy(update=counts)
    with tempfile.TemporaryDirectory() as project:
        results = check_splits(params, _split(changed, data_set.seed), reference, Path(project))
    failed = {
        table: [outcome.statement for outcome in outcomes if not outcome.success]
        for table, outcomes in results.outcomes.items()
    }
    drift = results.tables["drift"]
    largest = drift.groupby("statistic", sort=False)["drift"].max()
    return {
        "refused": any(failed.values()),
        "by_params": [statement for table, failures in failed.items() if table != "drift" for statement in failures],
        "by_reference": failed["drift"],
        "words": describe_drift(drift, params.drift),
        "drift": {name: round(value, 4) for name, value in largest.items() if value > 0},
    }


def compare_halves(images: pd.DataFrame, class_names: list[str]) -> dict[str, float]:
    """The drift that only chance causes: between `DRAWS` random halves of the data and the other halves."""
    drifts, distances = [], []
    for seed in range(DRAWS):
        parts = [rows.sample(frac=1, random_state=seed) for _, rows in images.groupby("part")]
        halves = [
            pd.concat([rows[: len(rows) // 2] for rows in parts]),
            pd.concat([rows[len(rows) // 2 :] for rows in parts]),
        ]
        drifts.append(drift_table(halves[1], class_names, summarize(halves[0], class_names))["drift"])
        training = [half[half["part"] == "training"] for half in halves]
        distances += [ks_2samp(*(half[name] for half in training)).statistic for name in STATISTICS]
    all_drifts = pd.concat(drifts)
    return {
        "draws": DRAWS,
        "figures": len(all_drifts),
        "above_0": int((all_drifts > 0).sum()),
        "largest_distance": max(distances),
        "chance_bound": chance_bound(*map(len, training)),
    }


def drift_text(results: Json) -> str:
    """The tables in Markdown; empty without results."""
    if not results:
        return ""
    damaged, harmless, halves = results["damaged"], results["harmless"], results["halves"]
    refused = [row for row in damaged.values() if row["refused"]]
    passed = sum(not row["refused"] for row in harmless.values())
    by_params = sum(bool(row["by_params"]) for row in refused)
    lines = [
        f"Data: **{results['data']}**, {results['date']}; limit `validate.drift` {results['limit']:g}. "
        f"**{len(refused)} of {len(damaged)} damaged data sets are refused, {passed} of {len(harmless)} harmless ones "
        "pass.** "
        f"The values in `params.yaml` detect {by_params} of the damaged ones; only the reference detects the other "
        f"{len(refused) - by_params}.",
        "",
        *_table("damaged: must be refused", damaged),
        "",
        *_table("harmless: must pass", harmless),
        "",
        *_table("faint: near or below the limit", results["faint"]),
        "",
        f"Chance: {halves['draws']} times a random half of the data was compared with the other half. The largest "
        f"distance between the distributions of training images was {halves['largest_distance']:.4f}; distances up to "
        f"{halves['chance_bound']:.4f} count as chance. Of {halves['figures']} drift figures, {halves['above_0']} were "
        "above 0.",
    ]
    return "\n".join(lines)


def _table(title: str, rows: Json) -> list[str]:
    return [
        f"| {title} | result | failed expectations of params.yaml | changes from the reference |",
        "|---|---|---|---|",
        *(
            f"| {name} | {_verdict(row)} | {len(row['by_params']) or ''} | {_changes(row)} |"
            for name, row in rows.items()
        ),
    ]


def _verdict(row: Json) -> str:
    return "refused" if row["refused"] else "passed"


def _changes(row: Json) -> str:
    return f"{row['words']} ({max(row['drift'].values()):.0%} or more)" if row["words"] else ""
