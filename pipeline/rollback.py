"""`make rollback VERSION=N`: make an earlier version the champion again.

python -m pipeline.rollback VERSION DIST
"""

import sys
from pathlib import Path

from pipeline.common.errors import PipelineError, exit_on_error, printable
from pipeline.common.files import exclusive
from pipeline.registry import store
from pipeline.registry.artifacts import REGISTERED_NAME, fetch_version, refuse_unusable
from pipeline.registry.model_version import require_usable, write_version_bundle
from pipeline.registry.store import ALIAS, PROMOTED, ROLLED_BACK
from pipeline.tracking.store import connect


def rollback(number: str, dist: Path) -> None:
    """Make a version the champion and write its bundle; `make export` does not promote the old champion again."""
    client = connect()
    champion, versions = store.current_champion(client), store.all_versions(client)
    chosen = next((version for version in versions if str(version.version) == number), None)
    if chosen is None:
        known = [f"{each.version} ({printable(str(each.tags.get('decision')), 30)})" for each in versions]
        raise PipelineError(
            f"there is no version {number!r} of {REGISTERED_NAME}; versions: {', '.join(known) or 'none'}. "
            "Run `make rollback VERSION=N`."
        )
    facts: store.Facts = {"by": "rollback", "reason": f"rolled back to version {number}"}
    remedy = "Run `make rollback VERSION=N` with another version."
    with refuse_unusable(chosen, remedy), fetch_version(chosen) as files:
        require_usable(files)  # before a decision is recorded
        if champion and champion.version != chosen.version:
            store.record_decision(client, champion, facts | {"decision": ROLLED_BACK})
        store.record_decision(client, chosen, facts | {"decision": PROMOTED})
        store.set_champion_alias(client, chosen)
        print(f"rollback: version {number} of {REGISTERED_NAME} is the {ALIAS}")
        print(f"rollback: {write_version_bundle(files, int(number), dist)}")


if __name__ == "__main__":
    with exit_on_error("rollback"), exclusive("export"):
        rollback(sys.argv[1], Path(sys.argv[2]))
