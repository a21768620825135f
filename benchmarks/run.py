"""`make bench`: measure the pipeline and the training, save the figures and write them into README.md and docs/.

Everything runs in temporary folders; only benchmarks/*.json, docs/ and README.md change.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import yaml

from benchmarks.ablation import measure_ablation
from benchmarks.drift import measure_drift
from benchmarks.evidence_report import evidence_figures
from benchmarks.inference import bench_inference
from benchmarks.measure import measure
from benchmarks.readme import ABLATION, DRIFT, INFERENCE, RESULTS, SKEWED, TRAINING, write_reports
from benchmarks.rows import Rows
from benchmarks.skewed import measure_skewed
from benchmarks.training import measure_training
from benchmarks.variants import MEASURED
from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.files import Json, exclusive, sha256_of, write_json
from pipeline.common.params import read_params
from pipeline.common.processor import machine
from pipeline.data.archive import read_archive
from pipeline.data.cifar10 import data_name
from pipeline.data.splits import SPLIT_NAMES

DEFAULT_ARCHIVE = Path("data/raw/cifar-10-python.tar.gz")
PICTURES = Path("docs/pictures")
REPEATS = 3
SECTIONS = ("all", "pipeline", "inference", "training", "ablation", "drift", "skewed")


def main() -> None:
    """Measure the chosen section, then write all reports from the saved figures."""
    arguments = parse_arguments()
    archive, section = arguments.archive.resolve(), arguments.section
    if not archive.is_file():
        raise PipelineError(f"there is no archive {archive}. Run `dvc repro download`, or `make bench ARCHIVE=path`.")
    with tempfile.TemporaryDirectory(prefix="bench ") as scratch:
        folder = Path(scratch) / "project"
        data = lay_out(folder, archive, arguments.name)
        conditions = {"data": data, "machine": machine()}
        today = conditions | {"date": date.today().isoformat()}
        if section in ("all", "pipeline"):
            write_json(RESULTS, today | bench_pipeline(Path(scratch), folder))
        else:
            run_stages(folder, stages(folder) if section == "inference" else ("download", "prepare"))
        splits = [str(folder / f"data/splits/{name}.npz") for name in SPLIT_NAMES]
        if section in ("all", "inference"):
            write_json(INFERENCE, today | bench_inference(folder))
        if section in ("all", "training"):
            measure_training(Rows(TRAINING, conditions), archive, splits, arguments.seeds, arguments.networks)
        if section == "drift":
            write_json(DRIFT, today | measure_drift(archive, data))
        if section == "ablation":
            measure_ablation(Rows(ABLATION, conditions), splits[:2], arguments.seeds)
        if section == "skewed":
            measure_skewed(Rows(SKEWED, conditions), splits, arguments.seeds)
    write_reports()


def parse_arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser("make bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--archive", type=Path, default=DEFAULT_ARCHIVE, help="in CIFAR-10's format")
    parser.add_argument("--name", help="name of the data in tables; the default is download.name of params.yaml")
    parser.add_argument("--section", choices=SECTIONS, default="all")
    seeds_help = "trainings of each network or variant; tables show medians or means"
    parser.add_argument("--seeds", type=int, choices=range(1, 11), default=1, help=seeds_help)
    networks_help = "separated by commas (section training)"
    parser.add_argument("--networks", type=network_names, default=["basic", "fast"], help=networks_help)
    return parser.parse_args()


def network_names(text: str) -> list[str]:
    """The networks in a list such as "basic,fast in float32"."""
    names = text.split(",")
    if unknown := [name for name in names if name not in MEASURED]:
        raise argparse.ArgumentTypeError(
            f"there is no network '{unknown[0]}', expected names from {', '.join(MEASURED)}, separated by commas"
        )
    return names


def run_stages(folder: Path, names: Iterable[str]) -> None:
    """Run the commands of these stages."""
    for name in names:
        print(f"bench: {name}", flush=True)
        measure(stages(folder)[name]["cmd"], folder)


def bench_pipeline(scratch: Path, folder: Path) -> Json:
    """The cost of the stages and commands, and the metrics; short stages are measured `REPEATS` times."""
    results: Json = {}
    print("bench: the six stages", flush=True)
    results["stages"] = time_stages(folder, stages(folder), REPEATS)
    print("bench: the stages of the evidence", flush=True)
    results["evidence"] = time_stages(folder, stages(folder / "evidence"), 1)
    print("bench: dvc repro if nothing changed", flush=True)
    results["nothing_to_do_seconds"] = time_nothing_to_do(folder)
    results |= evidence_figures(folder)
    results["model"] = read_params()["train"]["model"]
    print("bench: make demo in a clone", flush=True)
    results["clone_to_demo_seconds"] = time_clone(scratch)
    copy_pictures(folder, scratch / "a clone/.demo")
    return results


def lay_out(folder: Path, archive: Path, name: str | None) -> str:
    """Copy the project to `folder` with params for `archive`; return the name of the data in tables."""
    folder.mkdir()
    for file in ("dvc.yaml", ".dvcignore"):
        shutil.copy(file, folder)
    for code in ("evidence", "pipeline"):
        shutil.copytree(code, folder / code, ignore=shutil.ignore_patterns("dvc.lock", "__pycache__"))
    (folder / "data").mkdir()
    (folder / "data/reference.json").write_text("{}\n")  # no reference: the user's own one is about other data
    params, sha256 = read_params(), sha256_of(archive)
    params["download"] |= {"urls": [archive.as_uri()], "sha256": sha256, "name": name or params["download"]["name"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return data_name(params["download"]["name"], sha256, read_archive(archive).is_cifar10)


def stages(folder: Path) -> dict[str, Json]:
    """The stages of the dvc.yaml in the folder."""
    return yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]


def time_stages(folder: Path, found: dict[str, Json], repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds and peak memory in MB of each stage's command; download and train run once."""
    rows = {}
    for stage, facts in found.items():
        runs = [measure(facts["cmd"], folder) for _ in range(1 if stage in ("download", "train") else repeats)]
        rows[stage] = {
            "seconds": statistics.median(run.seconds for run in runs),
            "megabytes": max(run.megabytes for run in runs),
        }
    return rows


def time_nothing_to_do(folder: Path) -> float:
    """Median seconds of `dvc repro` if no stage has to run."""
    for command in ("dvc init --no-scm --quiet", "dvc config core.analytics false", "dvc commit --force --quiet"):
        measure(command, folder)
    return statistics.median(measure("dvc repro", folder).seconds for _ in range(REPEATS))


def time_clone(scratch: Path) -> float:
    """Seconds of `make demo` in a new clone, with the packages in pip's cache."""
    subprocess.run(["git", "clone", "--quiet", ".", str(scratch / "a clone")], check=True)
    return measure(["make", "demo"], scratch / "a clone").seconds


def copy_pictures(folder: Path, demo: Path) -> None:
    """Copy the pictures of docs/results.md; the repository contains no images of the data set."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "reports/plots/test/confusion_matrix.png", PICTURES)
    shutil.copy(demo / "reports/plots/contact_sheet.png", PICTURES)


if __name__ == "__main__":
    with exit_on_error("bench"), exclusive("bench"):
        main()
