"""Clean up after a DVC that was killed in a folder: python -m pipeline.recover [FOLDER]

DVC removes the locks of a dead process only while no other process has its number, and it cannot read a dvc.lock that
it has written in part.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.files import Json

COMMANDS = ("dvc", "pipeline.repro")  # `dvc ...`, `python -m dvc ...`, and `make evidence` and `make tune`
LOCK_FILES = ("dvc.lock", "evidence/dvc.lock", "tune/dvc.lock")


def recover(folder: Path) -> None:
    """Keep only the locks of living DVC processes in .dvc/tmp/rwlock, and move incomplete lock files aside.

    Raises:
        PipelineError: a DVC is at work in this folder.
    """
    if (rwlock := folder / ".dvc/tmp/rwlock").exists():
        remove_dead_locks(rwlock, folder)
    for path in (folder / name for name in LOCK_FILES):
        if path.exists() and not is_complete(path):
            aside = path.replace(path.with_name(f"{path.name}.incomplete"))
            print(f"recover: {path} was written in part by a DVC that was killed; it was moved to {aside.name}")
            print("recover: DVC restores results from its cache; `git checkout` restores a committed file")


def is_complete(path: Path) -> bool:
    """Whether a lock file of DVC has its stages."""
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and "stages" in content


def remove_dead_locks(path: Path, folder: Path) -> None:
    from dvc.lock import LockError, make_lock

    try:
        with make_lock(f"{path}.lock", tmp_dir=str(path.parent)):  # DVC's own guard of the file
            living = _without_dead(path)
    except LockError:
        raise PipelineError(f"another DVC writes {path} now. Run the same command again when it has ended.") from None
    if living:
        raise PipelineError(
            f"another DVC is at work in {folder.resolve()} (process {', '.join(map(str, living))}). "
            "Run the same command again when it has ended."
        )


def _without_dead(path: Path) -> list[int]:
    """Rewrite the lock file without locks of dead processes; the numbers of the living ones."""
    try:
        content = json.loads(path.read_text() or "{}")
        read = {name: kept for name, entries in content.get("read", {}).items() if (kept := living(entries))}
        write = {name: entry for name, entry in content.get("write", {}).items() if living([entry])}
    except (ValueError, AttributeError, KeyError, TypeError):  # DVC was killed while it wrote the file
        path.unlink()
        return []
    if (read, write) != (content.get("read", {}), content.get("write", {})):
        print(f"recover: removed the locks of a DVC that was killed from {path}")
        path.write_text(json.dumps({"write": write, "read": read}))
    return sorted({entry["pid"] for entry in _entries(read, write)})


def living(entries: list[Json]) -> list[Json]:
    return [entry for entry in entries if is_owner(entry["pid"], str(entry["cmd"]))]


def is_owner(pid: int, command: str) -> bool:
    """Whether a process with this number runs, and is DVC or the program that took the lock."""
    names = {*COMMANDS, Path(command.split(" ")[0]).name}
    try:
        return any(Path(word).name in names for word in psutil.Process(pid).cmdline())
    except psutil.AccessDenied:
        return True  # not ours to judge
    except (psutil.Error, OverflowError, ValueError):  # a zombie has no command line
        return False


def _entries(read: dict[str, list[Json]], write: dict[str, Json]) -> Iterator[Json]:
    yield from write.values()
    for entries in read.values():
        yield from entries


if __name__ == "__main__":
    with exit_on_error("recover"):
        recover(Path(*sys.argv[1:]))
