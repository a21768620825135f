"""MLflow stores in sqlite files, with the tables already there: MLflow takes seconds to create them."""

import atexit
import shutil
import sqlite3
import tempfile
import uuid
from contextlib import closing
from functools import cache
from pathlib import Path


@cache
def _tables():
    """A sqlite file with MLflow's tables and nothing else, created once per process."""
    import mlflow

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    mlflow.MlflowClient(f"sqlite:///{folder}/tables.db").search_experiments()
    return folder / "tables.db"


def empty_store(file):
    """Write an empty MLflow store to `file`; return its tracking URI."""
    shutil.copy(_tables(), file)
    return f"sqlite:///{file}"


def clone_run(file, run_id, accuracies, has_files=True):
    """Add copies of a run to the store in `file`, one for each validation accuracy; return their ids.

    They share the run's files, or have none.
    """
    clones = [uuid.uuid4().hex for _ in accuracies]
    with closing(sqlite3.connect(file)) as store, store:
        for table in ("runs", "tags", "latest_metrics"):
            cursor = store.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", [run_id])
            columns = [column for column, *_ in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            copies = [
                row | {"run_uuid": clone} | changes(row, clone, accuracy, has_files)
                for clone, accuracy in zip(clones, accuracies, strict=True)
                for row in rows
            ]
            names = ", ".join(columns)
            values = ", ".join(f":{column}" for column in columns)
            store.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", copies)
    return clones


def changes(row, clone, accuracy, has_files):
    if "artifact_uri" in row and not has_files:
        return {"artifact_uri": f"{row['artifact_uri']}-of-{clone}"}
    return {"value": accuracy} if row.get("key") == "best_validation_accuracy" else {}
