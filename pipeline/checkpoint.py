"""An unfinished training, kept after each epoch so that a killed run can go on from there.

The file's name is a hash of all that decides how training goes: settings, data, code, libraries and
devices. It lies outside DVC's outputs, which DVC deletes before a stage runs.
"""

import hashlib
import json
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from pipeline.files import remove, sha256_of, whole

LIBRARIES = ("keras", "numpy", "tensorflow")


class Checkpoint(NamedTuple):
    """What a training is after a whole epoch.

    `state` holds the values of the model's and its optimizer's variables, `best` the model's weights of
    the epoch best on validation, `rows` a row of figures per epoch, `seconds` the time used so far.
    """

    rows: list[dict[str, float]]
    seconds: float
    state: list[np.ndarray]
    best: list[np.ndarray]


def checkpoint_path(folder: Path, settings: dict[str, Any]) -> Path:
    """The file in `folder` for these settings and for the code and libraries of this process."""
    code = {name: sha256_of(path) for name, path in _project_modules().items()}
    libraries = {name: version(name) for name in LIBRARIES}
    decisive = json.dumps([settings, code, libraries], sort_keys=True)
    return folder / f"{hashlib.sha256(decisive.encode()).hexdigest()[:16]}.npz"


def _project_modules() -> dict[str, Path]:
    """Files of the project's modules that this process has imported."""
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return {
        spec.name: Path(spec.origin) for spec in specs if spec and spec.origin and spec.name.startswith("pipeline.")
    }


def write_checkpoint(path: Path, checkpoint: Checkpoint, run_id: str) -> None:
    """Replace the file at once; `run_id` is the MLflow run that the training records in."""
    facts = json.dumps({"rows": checkpoint.rows, "seconds": checkpoint.seconds, "run_id": run_id})
    arrays = {f"state_{i}": array for i, array in enumerate(checkpoint.state)}
    arrays |= {f"best_{i}": array for i, array in enumerate(checkpoint.best)}
    with whole(path) as (draft,), draft.open("wb") as file:
        np.savez(file, facts=np.array(facts), **arrays)


def read_checkpoint(path: Path) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint and its MLflow run, or None twice: there is none, or DVC was told to --force.

    One that cannot be read is as good as none: training starts anew.
    """
    if forced():
        remove(path)
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            state, best = ([file[key] for key in file.files if key.startswith(kind)] for kind in ("state_", "best_"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None, None
    return Checkpoint(facts["rows"], facts["seconds"], state, best), facts["run_id"]


def forced() -> bool:
    """Whether this process was started by a DVC that was told `--force`: it asks for all work to be done anew.

    DVC (3.67) tells its stages nothing of it, so its command line is looked at.
    """
    lines = [_command_line(parent) for parent in psutil.Process().parents()]
    return any(any("dvc" in Path(word).name for word in line[:3]) and {"-f", "--force"} & set(line) for line in lines)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended, or belongs to another user
        return []
