"""MLflow's sqlite file: killed while its tables are made, made by another version, moved, copied."""

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from projects import ROOT
from stores import empty_store
from toy_models import colour_model

from pipeline.common.errors import PipelineError
from pipeline.tracking.database import LOCATIONS
from pipeline.tracking.runs import training_run
from pipeline.tracking.store import connect

# Kills itself, as `kill -9` does, before the statement `number` that changes the tables.
KILL = """
import os, signal, sys
from sqlalchemy import Engine, event
left = int(sys.argv[1])
@event.listens_for(Engine, "before_cursor_execute")
def _(connection, cursor, statement, *_):
    global left
    left -= statement.split()[0] in ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""
MLFLOW = "import mlflow; mlflow.MlflowClient('sqlite:///mlflow.db').search_experiments()"
OLDER = """
from alembic import command
from mlflow.store.db import utils
upgrade = command.upgrade
command.upgrade = lambda config, _: upgrade(config, "b7e2c1a4d9f3")
utils._initialize_tables(utils.create_sqlalchemy_engine("sqlite:///mlflow.db"))
"""
CONNECT = "from pipeline.tracking.store import connect; connect()"
MOMENTS = [1, 4, 9, 60, 150, 290]  # of 300 statements; MLflow cannot go on after most of them


def execute(code, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True
    )


def killed(code, folder, number):
    """A process that runs the code is killed."""
    assert execute(KILL + code, folder, number).returncode == -signal.SIGKILL


def age(file):
    """Give the file an older time, as if it was left yesterday."""
    os.utime(file, (1e9, 1e9))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The repository's root, which is also the working folder."""
    folder = tmp_path / "a repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def rows(file, query):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def change(file, *statements):
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_tables_that_a_killed_mlflow_left_are_set_aside(root, capsys, moment):
    killed(MLFLOW, root, moment)
    age(root / "mlflow.db")
    with training_run({}):
        pass
    assert len(rows(root / "mlflow.db", "SELECT * FROM runs")) == 1
    (aside,) = root.glob("mlflow.db.incomplete-*")
    assert f"warning: {root}/mlflow.db had no runs and incomplete tables" in capsys.readouterr().err
    assert names(root) == {"mlflow.db", "mlflow.db.lock", aside.name}


@pytest.mark.parametrize("moment", [1, 100, 299])
def test_a_first_run_of_the_project_that_is_killed_leaves_no_store(root, moment):
    killed(CONNECT, root, moment)
    assert not (root / "mlflow.db").exists()
    with training_run({}):
        pass
    assert names(root) == {"mlflow.db", "mlflow.db.lock"}
    assert len(rows(root / "mlflow.db", "SELECT * FROM runs")) == 1


def test_an_interrupted_upgrade_with_runs_is_kept_and_refused(root):
    killed(MLFLOW, root, 60)
    change(root / "mlflow.db", "INSERT INTO runs (run_uuid) VALUES ('one')")
    age(root / "mlflow.db")
    before = (root / "mlflow.db").read_bytes()
    with pytest.raises(
        PipelineError, match=r"has runs, but its tables are of an older MLflow.*Copy the file.*db upgrade"
    ):
        connect()
    assert (root / "mlflow.db").read_bytes() == before
    assert names(root) == {"mlflow.db", "mlflow.db.lock"}


def test_a_store_of_an_older_mlflow_is_refused_until_it_is_upgraded(root):
    assert execute(OLDER, root).returncode == 0
    change(
        root / "mlflow.db",
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'theirs', 'active')",
        "INSERT INTO runs (run_uuid, experiment_id) VALUES ('one', 7)",
    )
    with pytest.raises(PipelineError, match="the revision b7e2c1a4d9f3") as refusal:
        connect()
    command = re.search("-m (mlflow db upgrade '.*?')", str(refusal.value))[1]
    subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=root, check=True, capture_output=True)
    assert connect().get_experiment_by_name("theirs").experiment_id == "7"
    assert rows(root / "mlflow.db", "SELECT run_uuid FROM runs") == [("one",)]


def test_a_store_of_a_newer_mlflow_is_refused(root):
    empty_store(root / "mlflow.db")
    change(root / "mlflow.db", "UPDATE alembic_version SET version_num = 'ffff\x1b[2J'")
    with pytest.raises(
        PipelineError, match=r"made by a newer MLflow than 3\..* revision ffff\\x1b\[2J\. Use the newer"
    ):
        connect()


def test_a_database_of_another_program_is_refused(root):
    change(root / "mlflow.db", "CREATE TABLE songs (name TEXT)")
    with pytest.raises(PipelineError, match=r"mlflow.db is a database of another program\. Move it away"):
        connect()
    assert rows(root / "mlflow.db", "SELECT name FROM sqlite_master") == [("songs",)]


def test_tables_that_mlflow_is_making_at_the_moment_are_awaited(root):
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # so that it is fast enough to find the tables incomplete

    with subprocess.Popen([sys.executable, "-c", MLFLOW], cwd=root, stderr=subprocess.DEVNULL) as process:
        while not (root / "mlflow.db").exists():
            assert process.poll() is None
        connect()
        assert process.wait() == 0
    assert not list(root.glob("*.incomplete-*"))
    assert rows(root / "mlflow.db", "SELECT name FROM experiments WHERE name = 'cifar10'") == [("cifar10",)]


def fill(root):
    """A run with an artifact, a model, a registered version and a trace; the run's id."""
    import mlflow

    with training_run({}) as record:
        mlflow.log_text("hello", "texts/a.txt")
        model = mlflow.onnx.log_model(colour_model(), name="model", save_as_external_data=False)
        mlflow.register_model(model.model_uri, "colours")
        client = mlflow.MlflowClient()
        client.create_model_version("colours", f"{mlflow.active_run().info.artifact_uri}/texts", record.run_id)
        with mlflow.start_span("question"):
            pass
        mlflow.flush_trace_async_logging()
    return record.run_id


def locations(root):
    """Every text in the database that contains an address of artifacts."""
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
        query = "SELECT {1} FROM {0} WHERE {1} LIKE '%/mlartifacts%'"
        return {at: [value for (value,) in connection.execute(query.format(*at))] for at in columns}


@pytest.fixture
def filled(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    empty_store(root / "mlflow.db")
    run_id = fill(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return run_id


# Reads what the store has, and writes another file to the run. In a process of its own: MLflow caches addresses.
USE = """
import sys
from pathlib import Path
from pipeline.tracking.store import connect
client = connect()
import mlflow
for uri in (f"runs:/{sys.argv[1]}/texts", "models:/colours/2"):
    assert Path(mlflow.artifacts.download_artifacts(uri), "a.txt").read_text() == "hello"
assert mlflow.onnx.load_model("models:/colours/1").graph.node
client.log_text(sys.argv[1], "later", "b.txt")
"""


def use(run_id, folder):
    done = execute(USE, folder, run_id)
    assert done.returncode == 0, done.stderr
    assert (folder / f"mlartifacts/{run_id}/artifacts/b.txt").exists()


@pytest.mark.parametrize("name", ["new", """n#w "é;&'"""])
def test_a_moved_store_finds_and_writes_its_artifacts_in_the_new_place(filled, root, name):
    found = {at for at, values in locations(root).items() if values}
    assert found == set(LOCATIONS)  # so that each column is tested
    new = root.rename(root.with_name(name))
    use(filled, new)
    assert {at for at, values in locations(new).items() if values} == found
    assert all(
        value.startswith((new / "mlartifacts").as_uri()) for values in locations(new).values() for value in values
    )
    assert not root.exists()


def test_a_copied_store_and_the_first_one_work_independently(filled, root):
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    use(filled, copy)
    assert not (root / f"mlartifacts/{filled}/artifacts/b.txt").exists()
    shutil.rmtree(copy)
    use(filled, root)
    assert not copy.exists()


def test_a_copied_database_without_its_artifacts_writes_beside_the_copy(filled, root):
    copy = root.with_name("copy")
    copy.mkdir()
    shutil.copy(root / "mlflow.db", copy)
    code = "from pipeline.tracking.store import connect; connect().log_text({run!r}, 'later', 'b.txt')"
    assert execute(code.format(run=filled), copy).returncode == 0
    assert [path.relative_to(copy).as_posix() for path in copy.rglob("b.txt")] == [
        f"mlartifacts/{filled}/artifacts/b.txt"
    ]
    assert not list(root.rglob("b.txt"))


def test_files_that_an_earlier_version_wrote_to_the_former_folder_do_not_hold_the_store_there(filled, root):
    new = root.rename(root.with_name("new"))
    (root / "mlartifacts").mkdir(parents=True)
    use(filled, new)
    assert not list((root / "mlartifacts").iterdir())


@pytest.mark.parametrize("kind", ["a folder of that name", "s3", "server", "another folder"])
def test_a_place_that_the_user_chose_for_artifacts_is_left_alone(root, monkeypatch, tmp_path, kind):
    import mlflow

    (tmp_path / "disk/mlartifacts").mkdir(parents=True)
    place = {
        "a folder of that name": (tmp_path / "disk/mlartifacts").as_uri(),
        "s3": "s3://bucket/mlartifacts",
        "server": "mlflow-artifacts:/1",
        "another folder": f"{root.as_uri()}/elsewhere",
    }[kind]
    client = mlflow.MlflowClient(empty_store(root / "mlflow.db"))
    client.create_experiment("cifar10", place)
    monkeypatch.chdir(root.rename(root.with_name("new")))
    assert connect().get_experiment_by_name("cifar10").artifact_location == place
