"""`make bench`: measure the pipeline and the training, save the figures and write them into README.md and docs/.

Everything runs in scratch folders; only benchmarks/*.json, docs/ and README.md change.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ablation import measure_ablation
from benchmarks.drift import measure_drift
from benchmarks.inference import bench_inference
from benchmarks.measure import measure
from benchmarks.readme import ABLATION, DRIFT, INFERENCE, RESULTS, TRAINING, write_reports
from benchmarks.rows import Rows
from benchmarks.training import measure_training
from pipeline.cifar10 import data_name
from pipeline.errors import PipelineError, one_message
from pipeline.files import sha256_of, write_json
from pipeline.latency import machine
from pipeline.params import read_params
from pipeline.splits import SPLIT_NAMES

DEFAULT_ARCHIVE = Path("data/raw/cifar-10-python.tar.gz")
PICTURES = Path("docs/pictures")
REPEATS = 3


def main() -> None:
    """Measure the sections that are asked for, then write all reports from what is saved."""
    asked = arguments()
    if not asked.archive.is_file():
        raise PipelineError(
            f"there is no archive {asked.archive}. Run `dvc repro download`, or `make bench ARCHIVE=path`."
        )
    with tempfile.TemporaryDirectory(prefix="bench ") as scratch:
        folder = Path(scratch) / "project"
        data = lay_out(folder, asked.archive.resolve(), asked.name)
        conditions = {"data": data, "machine": machine(), "date": date.today().isoformat()}
        if asked.section in ("all", "pipeline"):
            write_json(RESULTS, conditions | bench_pipeline(Path(scratch), folder))
        else:
            run_stages(folder, stages(folder) if asked.section == "inference" else ("download", "prepare"))
        if asked.section in ("all", "inference"):
            write_json(INFERENCE, conditions | bench_inference(folder))
        splits = [str(folder / f"data/splits/{name}.npz") for name in SPLIT_NAMES]
        if asked.section in ("all", "training"):
            rows = Rows(TRAINING, {"data": data, "machine": machine()})
            measure_training(rows, asked.archive.resolve(), splits, asked.seeds, asked.accurate)
        if asked.section == "drift":
            write_json(DRIFT, conditions | measure_drift(asked.archive, data))
        if asked.section == "ablation":
            measure_ablation(Rows(ABLATION, {"data": data, "machine": machine()}), splits[:2], asked.seeds)
    write_reports()


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser("make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, default=DEFAULT_ARCHIVE, help="in CIFAR-10's format")
    parser.add_argument("--name", help="what tables call the data; by default download.name of params.yaml")
    parser.add_argument(
        "--section", choices=("all", "pipeline", "inference", "training", "ablation", "drift"), default="all"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        choices=range(1, 11),
        default=1,
        help="trainings of `basic` and `fast`; tables show their medians",
    )
    parser.add_argument(
        "--accurate", action="store_true", help="train `accurate` too, once, which takes long (section training)"
    )
    return parser.parse_args()


def run_stages(folder: Path, names: Iterable[str]) -> None:
    """Run these stages' commands as dvc.yaml has them."""
    for name in names:
        print(f"bench: {name}", flush=True)
        measure(stages(folder)[name]["cmd"], folder)


def bench_pipeline(scratch: Path, folder: Path) -> dict[str, Any]:
    """Measure the stages and commands; figures of short stages are medians of `REPEATS`."""
    results: dict[str, Any] = {}
    print("bench: the six stages", flush=True)
    results["stages"] = time_stages(folder, stages(folder), REPEATS)
    print("bench: the stages of the evidence", flush=True)
    results["evidence"] = time_stages(folder, stages(folder / "evidence"), 1)
    print("bench: dvc repro with nothing to do", flush=True)
    results["nothing_to_do_seconds"] = time_nothing_to_do(folder)
    results["metrics"] = {path.stem: json.loads(path.read_text()) for path in folder.glob("reports/metrics/*.json")}
    results["model"] = read_params()["train"]["model"]
    print("bench: make demo from a bare clone", flush=True)
    results["clone_to_demo_seconds"] = time_clone(scratch)
    keep_pictures(folder, scratch / "a clone/.demo")
    return results


def lay_out(folder: Path, archive: Path, name: str | None) -> str:
    """Copy the project to `folder` with params for `archive`; what tables call the data."""
    folder.mkdir()
    shutil.copy("dvc.yaml", folder)
    shutil.copytree("evidence", folder / "evidence", ignore=shutil.ignore_patterns("dvc.lock"))
    shutil.copytree("pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    (folder / "data/reference.json").write_text("{}\n")  # none: a reference is about the user's own data
    params, sha256 = read_params(), sha256_of(archive)
    params["download"] |= {"urls": [archive.as_uri()], "sha256": sha256, "name": name or params["download"]["name"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return data_name(params["download"]["name"], sha256)


def stages(folder: Path) -> dict[str, Any]:
    """The stages of the dvc.yaml in the folder."""
    return yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]


def time_stages(folder: Path, found: dict[str, Any], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds and peak memory in MB of each stage's command as dvc.yaml has it."""
    rows = {}
    for stage, facts in found.items():
        runs = [measure(facts["cmd"], folder) for _ in range(1 if stage in ("download", "train") else repeats)]
        rows[stage] = {
            "seconds": statistics.median(run.seconds for run in runs),
            "megabytes": max(run.megabytes for run in runs),
        }
    return rows


def time_nothing_to_do(folder: Path) -> float:
    """Median seconds of `dvc repro` after every stage ran."""
    for command in ("dvc init --no-scm --quiet", "dvc config core.analytics false", "dvc commit --force --quiet"):
        measure(command, folder)
    return statistics.median(measure("dvc repro", folder).seconds for _ in range(REPEATS))


def time_clone(scratch: Path) -> float:
    """Seconds from a bare clone to the end of `make demo`, with pip's cache filled."""
    subprocess.run(["git", "clone", "--quiet", ".", str(scratch / "a clone")], check=True)
    return measure(["make", "demo"], scratch / "a clone").seconds


def keep_pictures(folder: Path, demo: Path) -> None:
    """Copy the pictures that the README shows; images of the data set itself stay out of the repository."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "reports/plots/test/confusion_matrix.png", PICTURES)
    shutil.copy(demo / "reports/plots/contact_sheet.png", PICTURES)


if __name__ == "__main__":
    with one_message("bench"):
        main()
