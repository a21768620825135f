"""`make rollback VERSION=N`: an earlier version is champion again: python -m pipeline.rollback VERSION DIST"""

import sys
import tempfile
from pathlib import Path

from pipeline import registry
from pipeline.errors import PipelineError, one_message
from pipeline.registry import ALIAS, PROMOTED, REGISTERED_NAME, ROLLED_BACK
from pipeline.release import write_champion
from pipeline.tracking import connect, explained


def rollback(number: str, dist: Path) -> None:
    """Move the alias to a version and write its bundle; `make export` does not promote the one left again.

    Raises:
        PipelineError: there is no such version, or its files were changed.
    """
    mlflow = connect()
    with explained():
        champion, known = registry.current_champion(mlflow), registry.versions(mlflow)
        chosen = next((version for version in known if str(version.version) == number), None)
        if chosen is None:
            there = ", ".join(f"{version.version} ({version.tags.get('decision')})" for version in known) or "none"
            raise PipelineError(
                f"there is no version {number!r} of {REGISTERED_NAME}; versions: {there}. Run `make rollback VERSION=N`."
            )
        with tempfile.TemporaryDirectory() as folder:
            registry.fetch_version(mlflow, chosen, Path(folder))  # before anything is changed
        facts = {"by": "rollback", "reason": f"rolled back to version {number}"}
        if champion and champion.version != chosen.version:
            registry.record(mlflow, champion, ROLLED_BACK, facts)
        registry.record(mlflow, chosen, PROMOTED, facts)
    print(f"rollback: version {number} of {REGISTERED_NAME} is the {ALIAS}")
    write_champion(mlflow, chosen, dist)


if __name__ == "__main__":
    with one_message("rollback"):
        rollback(sys.argv[1], Path(sys.argv[2]))
