"""Where a run comes from: its data, settings, code, and the DVC stages before it."""

import json
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from pipeline.common.files import Json
from pipeline.common.params import read_params

if TYPE_CHECKING:
    from pipeline.data.splits import Verdict

LIBRARIES = ("keras", "tensorflow", "numpy", "onnx", "tf2onnx", "onnxruntime")
LOCK_FILE = Path("dvc.lock")
LOGGED = {"download": ("name", "sha256"), "prepare": None, "validate": None}  # sections and keys; None is all keys


def data_tags(verdict: "Verdict") -> dict[str, str]:
    """The tags by which runs on the same data are found."""
    return {"archive_sha256": verdict["archive_sha256"], "splits_sha256": verdict["splits_sha256"]}


def code_tags() -> dict[str, str]:
    """Library versions; and, if they exist, the git commit, whether files differ from it, and DVC's experiment name."""
    tags = {f"library.{name}": version(name) for name in LIBRARIES}
    if commit := _git("rev-parse", "HEAD"):
        tags |= {
            "git_commit": commit,
            "git_dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower(),
        }
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc_exp_name"] = experiment
    return tags


def stage_tags(*stages: str) -> dict[str, str]:
    """A tag `dvc.STAGE` for each of these stages: the hashes of its outputs in dvc.lock."""
    if not LOCK_FILE.exists():  # run by hand, without DVC
        return {}
    locked = (yaml.safe_load(LOCK_FILE.read_text()) or {}).get("stages", {})  # empty if DVC was killed writing it
    return {
        f"dvc.{stage}": json.dumps({out["path"]: out["md5"] for out in locked[stage].get("outs", [])})
        for stage in stages
        if stage in locked
    }


def data_settings() -> Json:
    """The settings of the stages before train, by "section.key".

    The URLs are left out: the hash says which file they must serve, and they can name a folder of this machine.
    """
    sections = read_params()
    return {f"{name}.{key}": sections[name][key] for name, keys in LOGGED.items() for key in keys or sections[name]}


def _git(*arguments: str) -> str:
    """Output of a git command; empty without git or outside a repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
