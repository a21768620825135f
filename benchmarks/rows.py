"""Measured rows in a JSON file, saved one by one: an interrupted measurement continues with the next row."""

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pipeline.common.files import Json, atomic_outputs, read_json, sha256_of, write_json
from pipeline.training.checkpoint import imported_files

PROGRAMS = tuple(  # each run of one of them gives a row
    Path(f"benchmarks/{name}.py") for name in ("brief", "resnet20", "torch_peer", "train_one")
)
LIBRARIES = ("keras", "tensorflow")


class Rows:
    """A JSON file of rows by name, each with the conditions of its measurement.

    Args:
        conditions: data and machine. The next measurement removes rows of other conditions, because one table
            compares all rows. Rows of older code stay until they are measured again.
    """

    def __init__(self, path: Path, conditions: dict[str, str]) -> None:
        self._path = path
        self._conditions = conditions | {"code": code_hash()}

    def read(self) -> dict[str, Json]:
        """All rows, also those of other conditions."""
        return read_rows(self._path)

    def measure(self, name: str, measure: Callable[[], Json]) -> None:
        """Save the result of `measure`, unless a row with this name was measured under the same conditions."""
        rows = self.read()
        if rows.get(name, {}).get("conditions") == self._conditions:
            print(f"bench: {name}: already measured, in {self._path}", flush=True)
            return
        print(f"bench: {name}", flush=True)
        code = {"code": self._conditions["code"]}
        comparable = {key: row for key, row in rows.items() if row["conditions"] | code == self._conditions}
        rows = comparable | {name: {"conditions": self._conditions} | measure()}
        with atomic_outputs(self._path) as (draft,):
            write_json(draft, rows)


def code_hash() -> str:
    """A hash of everything that `PROGRAMS` import from this project, and of the libraries' versions: 16 hex digits."""
    files = sorted({file for program in PROGRAMS for file in imported_files(program.resolve())})
    code = [*map(sha256_of, files), *map(version, LIBRARIES)]
    return hashlib.sha256("".join(code).encode()).hexdigest()[:16]


def read_rows(path: Path) -> dict[str, Json]:
    """All rows of the file by name; none if the file does not exist."""
    return read_json(path, f"`git checkout {path}` restores it.") if path.exists() else {}
