"""Measured rows, saved one by one: what was cut goes on where it stopped."""

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.files import read_json, sha256_of, whole, write_json

CODE = (  # what decides how a row comes out
    "benchmarks/ablation.py",
    "benchmarks/brief.py",
    "benchmarks/flops.py",
    "benchmarks/train_one.py",
    "benchmarks/training.py",
    "benchmarks/variants.py",
    "pipeline/batches.py",
    "pipeline/devices.py",
    "pipeline/fit.py",
    "pipeline/models.py",
    "pipeline/muon.py",
    "pipeline/normalization.py",
)

LIBRARIES = ("keras", "tensorflow")


class Rows:
    """A JSON file of rows by name, each with the conditions under which it was measured.

    Args:
        conditions: such as the machine; a row made with other code is measured anew, and rows made
            under other conditions leave the file, since a table compares what was measured alike.
    """

    def __init__(self, path: Path, conditions: dict[str, str]) -> None:
        self._path = path
        code = "".join(sha256_of(Path(name)) for name in CODE) + "".join(map(version, LIBRARIES))
        self._conditions = conditions | {"code": hashlib.sha256(code.encode()).hexdigest()[:16]}

    def read(self) -> dict[str, dict[str, Any]]:
        """All rows, also those of other conditions."""
        return read_rows(self._path)

    def measure(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Save what `measure` gives, unless the row is there already."""
        rows = read_rows(self._path)
        if rows.get(name, {}).get("conditions") == self._conditions:
            print(f"bench: {name}: measured before, in {self._path}", flush=True)
            return
        print(f"bench: {name}", flush=True)
        code = {"code": self._conditions["code"]}
        alike = {key: row for key, row in rows.items() if row["conditions"] | code == self._conditions}
        rows = alike | {name: {"conditions": self._conditions} | measure()}
        with whole(self._path) as (draft,):
            write_json(draft, rows)


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """All rows of the file by name; none where there is no file."""
    return read_json(path, f"`git checkout {path}` restores it.") if path.exists() else {}
