"""The checkpoint of an unfinished training, written after each epoch, from which a killed run resumes.

The file's name is a hash of everything that decides the result: settings, data, code, libraries and
devices. It is not one of DVC's outputs, because DVC deletes those before a stage runs.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from filelock import FileLock, Timeout

from pipeline.common.files import atomic_outputs, remove, sha256_of

UNFINISHED = "models/.unfinished"  # the folder of checkpoints, in the repository's root
LIBRARIES = ("keras", "numpy", "tensorflow")


class Checkpoint(NamedTuple):
    """A training after a whole epoch: figures by epoch, time used, variables of model and optimizer, best weights."""

    rows: list[dict[str, float]]
    seconds: float
    state: list[np.ndarray]
    best: list[np.ndarray]


def checkpoint_path(folder: Path, program: Path, *settings: Mapping[str, object]) -> Path:
    """The file in `folder` for these settings, the libraries, and the code that `program` (in pipeline/) imports."""
    code = {path.relative_to(program.parents[1]).as_posix(): sha256_of(path) for path in imported_files(program)}
    libraries = {name: version(name) for name in LIBRARIES}
    key = json.dumps([settings, code, libraries], sort_keys=True)
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def imported_files(program: Path) -> list[Path]:
    """`program` and the project's files that it imports, directly or not; it is read, not run."""
    root = program.parent.parent
    finder = ModuleFinder([str(root)])
    finder.run_script(str(program))
    files = [getattr(module, "__file__", None) for module in finder.modules.values()]  # None for built-in modules
    return sorted({Path(file) for file in files if file and Path(file).is_relative_to(root)})


@contextmanager
def resumable(path: Path) -> Iterator[tuple[Checkpoint | None, str | None]]:
    """The result of `read_checkpoint`, locked for this process; the file is removed when the block succeeds.

    If DVC runs with --force, an existing file is removed first. Another training with the same settings waits, because
    both would write this file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        acquired = lock.acquire(timeout=0)
    except Timeout:
        print("train: waiting for a training with the same settings to end", flush=True)
        acquired = lock.acquire()
    with acquired:
        try:
            if forced():
                remove(path)
            yield read_checkpoint(path)
            remove(path)
        finally:
            remove(Path(lock.lock_file))  # before the release: a process that waits notices, and creates it again


def write_checkpoint(path: Path, checkpoint: Checkpoint, run_id: str) -> None:
    """Replace the file atomically; `run_id` is the MLflow run of the training."""
    facts = json.dumps({"rows": checkpoint.rows, "seconds": checkpoint.seconds, "run_id": run_id})
    arrays = {f"state_{i}": array for i, array in enumerate(checkpoint.state)}
    arrays |= {f"best_{i}": array for i, array in enumerate(checkpoint.best)}
    with atomic_outputs(path) as (draft,), draft.open("wb") as file:
        np.savez(file, allow_pickle=False, facts=np.array(facts), **arrays)


def read_checkpoint(path: Path) -> tuple[Checkpoint | None, str | None]:
    """The checkpoint and its MLflow run; None twice if there is no readable checkpoint."""
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            state, best = ([file[key] for key in file.files if key.startswith(kind)] for kind in ("state_", "best_"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None, None
    return Checkpoint(facts["rows"], facts["seconds"], state, best), facts["run_id"]


def forced() -> bool:
    """Whether a `dvc ... --force` started this process: the user wants everything computed again.

    DVC (3.67) does not tell its stages, so its command line is read. Experiments of a queue do not show it there.
    """
    return any(_forces(_command_line(parent)) for parent in psutil.Process().parents())


def _forces(words: list[str]) -> bool:
    """Whether a command line such as `python /path/to/dvc repro -fs train` is DVC's and contains --force."""
    is_dvc = any(Path(word).name == "dvc" or Path(word).parts[-2:] == ("dvc", "__main__.py") for word in words[:4])
    return is_dvc and any(word == "--force" or re.fullmatch(r"-[a-zA-Z]*f[a-zA-Z]*", word) for word in words)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended, or belongs to another user
        return []
