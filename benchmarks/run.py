"""`make bench`: measure the pipeline, save the figures and write them into the README.

python -m benchmarks.run [ARCHIVE [NAME]]: an archive in CIFAR-10's format and what tables call it,
by default the one that the download stage has put in place, and download.name. Everything runs in scratch folders; only benchmarks/results.json,
docs/pictures/ and README.md change.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import machine, measure
from benchmarks.readme import write_readme
from pipeline.cifar10 import data_name
from pipeline.errors import PipelineError, one_message
from pipeline.files import sha256_of, write_json
from pipeline.params import read_params

DEFAULT_ARCHIVE = Path("data/raw/cifar-10-python.tar.gz")
RESULTS = Path("benchmarks/results.json")
PICTURES = Path("docs/pictures")
REPEATS = 3
WITHOUT_DETERMINISM = (
    "import tensorflow; tensorflow.config.experimental.enable_op_determinism = lambda: None; "
    "from pipeline.params import run_stage; from pipeline.train import *; run_stage(train, TrainParams)"
)
TURN_EPOCHS = 3  # of each training where two are timed in turn


def bench(archive: Path, name: str | None) -> dict[str, Any]:
    """Measure everything on `archive`, which tables call `name`; figures of short stages are medians of `REPEATS`."""
    with tempfile.TemporaryDirectory(prefix="bench ") as scratch:
        folder = Path(scratch) / "project"
        results = {"data": lay_out(folder, archive, name), "machine": machine(), "date": date.today().isoformat()}
        print("bench: the six stages", flush=True)
        results["stages"] = time_stages(folder)
        print("bench: dvc repro with nothing to do", flush=True)
        results["nothing_to_do_seconds"] = time_nothing_to_do(folder)
        results["metrics"] = {path.stem: json.loads(path.read_text()) for path in folder.glob("reports/metrics/*.json")}
        print("bench: training in turn with the textbook script", flush=True)
        results["training"] = time_training(folder, archive)
        print("bench: make demo from a bare clone", flush=True)
        results["clone_to_demo_seconds"] = time_clone(Path(scratch))
        keep_pictures(folder, Path(scratch) / "a clone/.demo")
    return results


def lay_out(folder: Path, archive: Path, name: str | None) -> str:
    """Copy the project to `folder` with params for `archive`; what tables call the data."""
    folder.mkdir()
    shutil.copy("dvc.yaml", folder)
    shutil.copytree("pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    params, sha256 = read_params(), sha256_of(archive)
    params["download"] |= {"urls": [archive.as_uri()], "sha256": sha256, "name": name or params["download"]["name"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return data_name(params["download"]["name"], sha256)


def time_stages(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak memory in MB of each stage's command as dvc.yaml has it."""
    rows = {}
    for stage, facts in yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].items():
        runs = [measure(facts["cmd"], folder) for _ in range(1 if stage in ("download", "train") else REPEATS)]
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


def time_training(folder: Path, archive: Path) -> dict[str, list[float]]:
    """Images per second of the textbook script, of train, and of train without determinism, in turn."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"]["epochs"] = TURN_EPOCHS
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    train = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]["train"]["cmd"]
    shutil.copytree("benchmarks", folder / "benchmarks")
    speeds: dict[str, list[float]] = {"textbook script": [], "train": [], "train without determinism": []}
    free = train.replace("python -m pipeline.train", f"python -c '{WITHOUT_DETERMINISM}'")
    for _ in range(REPEATS):
        brief = measure([sys.executable, "-m", "benchmarks.brief", str(archive), str(TURN_EPOCHS)], folder)
        speeds["textbook script"].append(json.loads(brief.output.splitlines()[-1])["images_per_second"])
        for name, command in (("train", train), ("train without determinism", free)):
            measure(command, folder)
            timing = json.loads((folder / "reports/metrics/train_timing.json").read_text())
            speeds[name].append(timing["images_per_second"])
    return speeds


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
        chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ARCHIVE
        if not chosen.is_file():
            raise PipelineError(
                f"there is no archive {chosen}. Run `dvc repro download`, or `make bench ARCHIVE=path`."
            )
        write_json(RESULTS, bench(chosen.resolve(), sys.argv[2] if len(sys.argv) > 2 else None))
        write_readme(RESULTS, Path("README.md"))
