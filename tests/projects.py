"""Copies of the project in a temporary folder, and a function that runs its commands as users do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from pipeline.common.files import sha256_of, write_json
from pipeline.data.splits import combined_sha256

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "true",
}
for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "MAKEFLAGS", "MAKELEVEL"):
    ENVIRONMENT.pop(variable, None)


# Of section train: the network's own values.
OWN_VALUES = dict.fromkeys(("learning_rate", "class_weight", "flip", "shift", "cutout", "smoothing"))


def approve(verdict, paths):
    """Write a validate.json that says success for these files."""
    hashes = {name: sha256_of(path) for name, path in paths.items()}
    facts = {
        "success": True,
        "archive_sha256": "ab" * 32,
        "is_cifar10": False,
        "splits_sha256": combined_sha256(hashes),
        "splits": hashes,
    }
    write_json(verdict, facts)
    return verdict


def make_project(folder, archive):
    """Copy dvc.yaml and the code to `folder`, with params for the small archive."""
    folder.mkdir()
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("evidence", "tune"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("dvc.lock"))
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    (folder / "data/reference.json").write_text("{}\n")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "name": "generated",
        "sha256": sha256_of(archive),
        "urls": [archive.as_uri()],
        "patience": 1.0,
    }
    params["prepare"]["validation_images"] = 100
    params["validate"] |= {"train_images": 500, "test_images": 100}
    params["validate"] |= {"channel_means": [0.5, 0.45, 0.42], "channel_spreads": [0.3, 0.3, 0.3], "tolerance": 0.1}
    params["train"] |= {"model": "basic", "epochs": 2}
    params["evaluate"] |= {"pictures": 4}
    params["tune"] |= {"model": "basic", "trials": 3, "cpus": 1}
    params["tune"] |= {"epochs": {"choices": [2, 4]}, "batch_size": {"choices": [25, 50]}}
    params["suspect_labels"] |= {"model": "basic", "epochs": 2, "batch_size": 50}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return folder


def words(paths):
    """The words name=path of a stage's command line."""
    return [f"{name}={path}" for name, path in paths.items()]


def run(folder, *command, **environment):
    """Run `python -m ...` in `folder` with this Python; return the completed process with its output as text."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true", "MLFLOW_DISABLE_TELEMETRY": "true"} | environment,
        capture_output=True,
        text=True,
    )


def set_params(folder, **sections):
    """Change values in the project's params.yaml: set_params(project, train={"epochs": 3})."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        params[name] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def make(folder, *arguments, **variables):
    """`make ...` with the environment that runs the tests in place of a new one."""
    command = ["make", "--old-file=.venv/installed", *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT | variables, capture_output=True, text=True)


def as_clone(folder):
    """Make the project a git repository with DVC, as a clone is."""
    for name in ("Makefile", "requirements.lock", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("data", "models", "reports"):
        (folder / name).mkdir(exist_ok=True)
        shutil.copy(ROOT / name / ".gitignore", folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["git", "init", "-q"], ["git", "add", "."], ["git", *identity, "commit", "-qm", "as cloned"]):
        subprocess.run(command, cwd=folder, check=True)
    assert run(folder, "dvc", "init", "-q").returncode == 0
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    subprocess.run(["git", *identity, "commit", "-qm", "DVC"], cwd=folder, check=True)
