"""Clean up after a DVC that was killed in a folder: python -m pipeline.recover [FOLDER]

DVC removes the locks of a dead process only while no other process has its number, it cannot read a dvc.lock that it
has written in part, and it never removes the temporary files of its copies.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import psutil
import yaml

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.files import Json, remove

COMMANDS = ("dvc", "pipeline.repro")  # `dvc ...`, `python -m dvc ...`, and `make evidence` and `make tune`
LOCK_FILES = ("dvc.lock", "evidence/dvc.lock", "tune/dvc.lock")
TEMPORARY = re.compile(r".*\.[\w-]{22}\.tmp", re.ASCII)  # 16 random bytes in base64: dvc_objects.fs.utils.tmp_fname


def recover(folder: Path) -> None:
    """Keep only the locks of living DVC processes in .dvc/tmp/rwlock, move incomplete lock files aside, and remove
    incomplete copies beside and in the outputs.

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
    remove_incomplete_copies(folder)


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


def remove_incomplete_copies(folder: Path) -> None:
    """Remove what a killed DVC was copying to or from its cache; nothing while a command like `dvc pull` runs."""
    beside = (path for output in outputs(folder) for path in (*output.parent.glob("*.tmp"), *output.rglob("*.tmp")))
    files = {path for path in beside if TEMPORARY.fullmatch(path.name)}
    if not files:
        return
    from dvc.lock import LockError, make_lock

    locks = folder / ".dvc/tmp"
    locks.mkdir(parents=True, exist_ok=True)
    with suppress(LockError), make_lock(str(locks / "lock"), tmp_dir=str(locks)):
        for path in sorted(files):
            remove(path)
            print(f"recover: removed {path}, a copy that a killed DVC did not finish")


def outputs(folder: Path) -> list[Path]:
    """The files and folders that the stages write and DVC copies to its cache; none if DVC will refuse dvc.yaml."""
    try:
        stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].values()
        lists = [stage.get(key, ()) for stage in stages for key in ("outs", "metrics", "plots")]
        return [folder / name for each in chain(*lists) for name in ([each] if isinstance(each, str) else each)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, AttributeError, TypeError):
        return []


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
