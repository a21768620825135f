"""An unfinished training, kept after each epoch so that a killed run can go on from there.

The file's name is a hash of all that decides how training goes: settings, data, code, libraries and
devices. It lies outside DVC's outputs, which DVC deletes before a stage runs.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from filelock import FileLock, Timeout

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


def checkpoint_path(folder: Path, *settings: dict[str, Any]) -> Path:
    """The file in `folder` for these settings, the project's code and the libraries."""
    code = {path.name: sha256_of(path) for path in Path(__file__).parent.glob("*.py")}
    libraries = {name: version(name) for name in LIBRARIES}
    decisive = json.dumps([settings, code, libraries], sort_keys=True)
    return folder / f"{hashlib.sha256(decisive.encode()).hexdigest()[:16]}.npz"


@contextmanager
def resumable(path: Path) -> Iterator[tuple[Checkpoint | None, str | None]]:
    """What `read_checkpoint` gives, for this process alone; the file is removed when the block ends well.

    Another training with the same settings waits for that: both would write this file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        taken = lock.acquire(timeout=0)
    except Timeout:
        print("train: waits until a training with the same settings ends", flush=True)
        taken = lock.acquire()
    with taken:
        try:
            yield read_checkpoint(path)
            remove(path)
        finally:
            remove(Path(lock.lock_file))  # while it is held: one that waits for it sees that, and makes it anew


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

    DVC (3.67) tells its stages nothing of it, so its command line is looked at. Experiments that a queue
    starts do not show it there.
    """
    return any(_forces(_command_line(parent)) for parent in psutil.Process().parents())


def _forces(words: list[str]) -> bool:
    """Whether a command line such as `python /path/to/dvc repro -fs train` is DVC's and has --force."""
    is_dvc = any(Path(word).name == "dvc" or Path(word).parts[-2:] == ("dvc", "__main__.py") for word in words[:4])
    return is_dvc and any(word == "--force" or re.fullmatch(r"-[a-zA-Z]*f[a-zA-Z]*", word) for word in words)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended, or belongs to another user
        return []
