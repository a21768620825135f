"""`make rollback VERSION=N`: make an earlier version the champion again.

python -m pipeline.rollback VERSION DIST
"""

import sys
from pathlib import Path

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.registry import store
from pipeline.registry.model_version import write_champion_bundle
from pipeline.registry.store import ALIAS, PROMOTED, REGISTERED_NAME, ROLLED_BACK
from pipeline.tracking.store import connect


def rollback(number: str, dist: Path) -> None:
    """Make a version the champion and write its bundle; `make export` does not promote the old champion again."""
    client = connect()
    champion, versions = store.current_champion(client), store.all_versions(client)
    chosen = next((version for version in versions if str(version.version) == number), None)
    if chosen is None:
        known = ", ".join(f"{each.version} ({each.tags.get('decision')})" for each in versions) or "none"
        raise PipelineError(
            f"there is no version {number!r} of {REGISTERED_NAME}; versions: {known}. Run `make rollback VERSION=N`."
        )
    facts: store.Facts = {"by": "rollback", "reason": f"rolled back to version {number}"}
    with store.fetch_version(chosen):  # changed files are refused before a decision is recorded
        if champion and champion.version != chosen.version:
            store.record_decision(client, champion, facts | {"decision": ROLLED_BACK})
        store.record_decision(client, chosen, facts | {"decision": PROMOTED})
        store.set_champion_alias(client, chosen)
    print(f"rollback: version {number} of {REGISTERED_NAME} is the {ALIAS}")
    write_champion_bundle(chosen, dist)


if __name__ == "__main__":
    with exit_on_error("rollback"):
        rollback(sys.argv[1], Path(sys.argv[2]))
