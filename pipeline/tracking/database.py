"""The sqlite file of a local store: its tables appear complete or not at all, and its artifacts move with it."""

import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

from pipeline.common.errors import PipelineError, printable
from pipeline.common.files import remove
from pipeline.tracking.address import sqlite_uri

ARTIFACTS = "mlartifacts"  # the folder beside the database
BUSY = 20.0  # seconds to wait for a process that writes
BEING_MADE = 10.0  # seconds since the last change, in which another program may still be making the tables
EXAMINED = 1000  # rows of each index, for statistics
CONTENT = {"runs", "registered_models", "logged_models", "trace_info"}  # a store with rows in these tables is kept
LOCATIONS = (  # the columns that contain addresses of artifacts (MLflow 3.17)
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
ANOTHER = "Move it away, or set MLFLOW_TRACKING_URI to another store."


def prepare_database(file: Path) -> None:
    """Make MLflow's tables if there are none, and correct the addresses of artifacts if the folder was moved or copied.

    Only one process may call it at a time.

    Raises:
        PipelineError: the database is another program's, or another version of MLflow made it.
        OSError, sqlite3.Error: it cannot be read or written.
    """
    while not has_tables(file):
        if _is_being_made(file):
            time.sleep(0.5)
            continue
        _set_aside(file)
        _make_tables(file)
    _follow_folder(file)


def refresh_statistics(file: Path) -> None:
    """Count rows for SQLite's query planner: without it the search of 10,000 runs compares each run with each run.

    Raises:
        OSError, sqlite3.Error: the database cannot be read or written.
    """
    with _opened(file) as connection:
        connection.execute(f"PRAGMA analysis_limit = {EXAMINED}")
        connection.execute("ANALYZE")


def has_tables(file: Path) -> bool:
    """Whether the tables of this MLflow are complete; if not, `PipelineError` unless nothing would be lost with them."""
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    if not file.exists():
        return False
    known = [script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()]
    with _opened(file) as connection:
        revision, has_content = _revision(connection, file), _has_content(connection)
    if revision == known[0]:
        return True
    name, version = printable(str(file)), mlflow.__version__
    if revision and revision not in known:
        raise PipelineError(
            f"{name} was made by a newer MLflow than {version}, which is installed here: its tables have the revision "
            f"{printable(revision, 40)}. Use the newer version of this project. {ANOTHER}"
        )
    if has_content:
        raise PipelineError(
            f"{name} has runs, but its tables are of an older MLflow, or an upgrade of them was interrupted: they have "
            f"the revision {revision}, and MLflow {version} needs {known[0]}. Copy the file, then run "
            f"`.venv/bin/python -m mlflow db upgrade '{sqlite_uri(file)}'`. If that fails, go back to a copy from before "
            "the upgrade, or move the file away: `dvc repro --force --single-item evaluate export` records your results "
            "in a new store."
        )
    return False


def _revision(connection: sqlite3.Connection, file: Path) -> str | None:
    """The revision of MLflow's tables; None before their first migration. `PipelineError` if they are not MLflow's."""
    tables = _tables(connection)
    if tables and "experiments" not in tables:
        raise PipelineError(f"{printable(str(file))} is a database of another program. {ANOTHER}")
    found = connection.execute("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
    return next((revision for (revision,) in found), None)


def _has_content(connection: sqlite3.Connection) -> bool:
    tables = CONTENT & _tables(connection)
    return any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an existing database, closed after the block."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY)) as connection:
        yield connection


def _is_being_made(file: Path) -> bool:
    """Whether another program, such as `mlflow ui`, has changed the file a moment ago."""
    return file.exists() and 0 <= time.time() - file.stat().st_mtime < BEING_MADE


def _set_aside(file: Path) -> None:
    """Rename incomplete tables, which a killed first run left."""
    if file.exists():
        aside = file.with_name(f"{file.name}.incomplete-{time.strftime('%Y%m%d-%H%M%S')}")
        file.rename(aside)
        print(
            f"warning: {printable(str(file))} had no runs and incomplete tables, as if its first run was killed. It is "
            f"renamed to {printable(aside.name)}; a new store is made.",
            file=sys.stderr,
        )


def _make_tables(file: Path) -> None:
    """Make the tables in another file, which is renamed when they are complete: MLflow cannot continue after a kill."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = file.with_name(f"{file.name}.partial")  # a folder, because SQLite writes a journal beside its file
    remove(draft)
    try:
        draft.mkdir(parents=True)
        store = SqlAlchemyStore(sqlite_uri(draft / file.name), (file.parent / ARTIFACTS).as_uri())
        store.engine.dispose()
        if not file.exists():  # `mlflow ui` can have made it in the meantime
            (draft / file.name).rename(file)
    finally:
        remove(draft)


def _follow_folder(file: Path) -> None:
    """Replace the address of a former folder, because MLflow records absolute addresses."""
    here = (file.parent / ARTIFACTS).as_uri()
    with _opened(file) as connection:
        for (location,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
            recorded = re.fullmatch(rf"(file://.*/{ARTIFACTS})(/0)?", location or "")  # 0: MLflow's experiment Default
            if recorded and recorded[1] != here and not _is_place_of_user(connection, recorded[1], file):
                with connection:  # all columns or none
                    _replace_location(connection, recorded[1], here)


def _is_place_of_user(connection: sqlite3.Connection, location: str, file: Path) -> bool:
    """Whether a user chose that folder: it exists without such a database beside it, and no run's files are here."""
    folder = Path(unquote(location.removeprefix("file://")))
    if not folder.is_dir() or (folder.parent / file.name).exists():
        return False
    runs = connection.execute("SELECT run_uuid FROM runs WHERE artifact_uri LIKE ? || '/%'", [location])
    return not any((file.parent / ARTIFACTS / run).exists() for (run,) in runs)


def _replace_location(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
            f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
            {"old": old, "new": new},
        )
