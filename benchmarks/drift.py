"""Section drift of `make bench`: what validation refuses of spoiled data sets, and whether it passes harmless ones."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from benchmarks.spoiled import DataSet, data_sets
from pipeline.appearance import MEASURES
from pipeline.cifar10 import Archive, read_archive
from pipeline.drift import drift_table, granted, summarize
from pipeline.params import read_params
from pipeline.prepare import PrepareParams, choose_validation, split_archive
from pipeline.reference import Reference
from pipeline.splits import SPLIT_NAMES, Split
from pipeline.validate import ValidateParams, examine, measured, moved

DRAWS = 20  # pairs of disjoint halves, which tell how far chance moves the figures


def measure_drift(archive: Path, name: str) -> dict[str, Any]:
    """What became of each data set made of the archive, and how far its halves are from each other."""
    params, data = ValidateParams.of_section("validate", read_params()["validate"]), read_archive(archive)
    splits = _split(data, 0)
    images = dict(measured(splits, None))["images"]
    kept = Reference.model_validate(
        {"name": name, "archive_sha256": "of the benchmark", "parts": summarize(images, data.class_names)}
    )
    results: dict[str, Any] = {"limit": params.drift, "halves": compare_halves(images, data.class_names)}
    for group, title, each in data_sets():
        row = judge(params, data, each, kept)
        print(f"bench: {group}: {title}: {'refused' if row['refused'] else 'passed'}; {row['words']}", flush=True)
        results.setdefault(group, {})[title] = row
    return results


def _split(data: Archive, seed: int) -> dict[str, Split]:
    prepare = PrepareParams(validation_images=len(data.train_labels) // 10, seed=seed)
    held_back = choose_validation(data.train_labels, int(data.train_labels.max()) + 1, prepare)
    return dict(zip(SPLIT_NAMES, split_archive(data, held_back, "of the benchmark"), strict=True))


def judge(params: ValidateParams, data: Archive, each: DataSet, kept: Reference) -> dict[str, Any]:
    """Whether the suite refuses the data set, and which expectations do."""
    made = each.make(data, np.random.default_rng(0))
    if each.counted:
        counts = {"train_images": len(made.train_labels), "test_images": len(made.test_labels)}
        params = params.model_copy(update=counts)
    with tempfile.TemporaryDirectory() as project:
        examined = examine(params, _split(made, each.seed), kept, Path(project))
    failed = {
        table: [outcome.reason for outcome in outcomes if not outcome.success]
        for table, outcomes in examined.outcomes.items()
    }
    changes = examined.tables["drift"]
    largest = changes.groupby("measure", sort=False)["drift"].max()
    return {
        "refused": any(failed.values()),
        "by_params": [reason for table, reasons in failed.items() if table != "drift" for reason in reasons],
        "by_reference": failed["drift"],
        "words": moved(changes, params.drift),
        "drift": {name: round(drift, 4) for name, drift in largest.items() if drift > 0},
    }


def compare_halves(images: pd.DataFrame, class_names: list[str]) -> dict[str, float]:
    """`DRAWS` random halves against the other halves: how far chance moves the figures, and what is granted to it."""
    drifts, distances = [], []
    for seed in range(DRAWS):
        parts = [rows.sample(frac=1, random_state=seed) for _, rows in images.groupby("part")]
        ones = pd.concat([rows[: len(rows) // 2] for rows in parts])
        others = pd.concat([rows[len(rows) // 2 :] for rows in parts])
        drifts.append(drift_table(others, class_names, summarize(ones, class_names))["drift"])
        pairs = [each[each["part"] == "training"] for each in (ones, others)]
        distances += [ks_2samp(*(each[name] for each in pairs)).statistic for name in MEASURES]
    together = pd.concat(drifts)
    return {
        "draws": DRAWS,
        "figures": len(together),
        "above_0": int((together > 0).sum()),
        "largest_distance": max(distances),
        "granted": granted(*map(len, pairs)),
    }


def drift_text(results: dict[str, Any]) -> str:
    """The tables in Markdown; empty where nothing was measured."""
    if not results:
        return ""
    spoiled, harmless, halves = results["spoiled"], results["harmless"], results["halves"]
    caught = [row for row in spoiled.values() if row["refused"]]
    passed = sum(not row["refused"] for row in harmless.values())
    unaided = sum(bool(row["by_params"]) for row in caught)
    alone = sum(not row["by_params"] for row in caught)
    lines = [
        f"Data: **{results['data']}**, {results['date']}; limit `validate.drift` {results['limit']:g}. "
        f"**{len(caught)} of {len(spoiled)} spoiled data sets are refused, {passed} of {len(harmless)} harmless ones pass.** "
        f"The values of `params.yaml` catch {unaided} of the spoiled ones; the other {alone} are caught by the reference alone.",
        "",
        *_table("spoiled: must be refused", spoiled),
        "",
        *_table("harmless: must pass", harmless),
        "",
        *_table("faint: where it ends", results["faint"]),
        "",
        f"Chance: {halves['draws']} times a random half of the data was compared with the other half. The largest distance between "
        f"the training images' distributions was {halves['largest_distance']:.4f}, where {halves['granted']:.4f} is granted to chance; "
        f"{halves['above_0']} of {halves['figures']} figures were above 0.",
    ]
    return "\n".join(lines)


def _table(title: str, rows: dict[str, Any]) -> list[str]:
    lines = [
        f"| {title} | verdict | expectations of params.yaml that failed | the reference says |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        verdict = "refused" if row["refused"] else "passed"
        lines.append(f"| {name} | {verdict} | {len(row['by_params']) or ''} | {_named(row)} |")
    return lines


def _named(row: dict[str, Any]) -> str:
    return f"{row['words']} ({max(row['drift'].values()):.0%} or more)" if row["words"] else ""
