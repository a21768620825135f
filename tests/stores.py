"""MLflow stores in sqlite files, with the tables already there: MLflow takes seconds to create them."""

import atexit
import shutil
import tempfile
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
