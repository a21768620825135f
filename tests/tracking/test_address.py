"""Addresses of the store: which are used, which are refused, and what is shown of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT, run
from stores import empty_store

from pipeline.common.errors import PipelineError
from pipeline.tracking.address import (
    displayed_uri,
    is_remote,
    portable_uri,
    require_usable_address,
    sqlite_file,
    tracking_uri,
)

ODD = """100% a?b#c"d'e;f&g=h+é [x]{y}"""
RECORD = """
from pipeline.tracking.runs import training_run
with training_run({}) as record:
    import mlflow
    mlflow.log_text("hello", "a.txt")
    run = mlflow.active_run().info.run_id
assert open(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="a.txt")).read() == "hello"
"""


@pytest.mark.parametrize(
    ("uri", "used", "file"),
    [
        ("sqlite:///team.db", "sqlite:////root folder/team.db", "/root folder/team.db"),
        ("sqlite:///../team.db", "sqlite:////team.db", "/team.db"),
        ("sqlite:////else/team.db", "sqlite:////else/team.db", "/else/team.db"),
        ("sqlite:////else/team.db?timeout=3", "sqlite:////else/team.db?timeout=3", "/else/team.db"),
        ("sqlite:////el%20se/team.db", "sqlite:////el se/team.db", "/el se/team.db"),
        ("sqlite:///file:/else/m.db?mode=ro&uri=true", "sqlite:///file:/else/m.db?mode=ro&uri=true", "/else/m.db"),
        ("http://host", "http://host", None),
        ("", "sqlite:////root folder/mlflow.db", "/root folder/mlflow.db"),
    ],
)
def test_a_relative_sqlite_path_starts_at_the_root(monkeypatch, uri, used, file):
    monkeypatch.setenv("DVC_ROOT", "/root folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri() == used
    assert sqlite_file() == (Path(file) if file else None)
    assert is_remote() == (file is None)


def test_the_address_for_another_process_names_the_same_file(monkeypatch, tmp_path):
    folder = tmp_path / ODD
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", portable_uri())
    monkeypatch.chdir(tmp_path)
    assert sqlite_file() == folder / "mlflow.db"


@pytest.mark.parametrize("place", [".", ".dvc/tmp/exps/one"])
def test_a_repository_with_an_odd_name_has_the_store_inside(tmp_path, place):
    root = tmp_path / "outer" / ODD
    (root / place).mkdir(parents=True)
    empty_store(root / "mlflow.db")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(root)}
    command = [sys.executable, "-c", RECORD]
    subprocess.run(command, cwd=root / place, env=environment, check=True)
    assert [path.name for path in root.parent.iterdir()] == [ODD]
    assert {path.name for path in root.iterdir()} - {".dvc"} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert [path.read_text() for path in root.rglob("a.txt")] == ["hello"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my%20data", "MLflow reads `%20` in a path as ` `. Rename that folder"),
        ("a%2Fb", "MLflow reads `%2F` in a path as `/`"),
        ("%3f", r"MLflow reads `%3f` in a path as `\?`"),
        (os.fsdecode(b"a\xff"), r"a\\udcff/mlflow.db: its name is not UTF-8"),
    ],
)
def test_a_folder_that_mlflow_cannot_use_is_refused_by_name(monkeypatch, tmp_path, name, reason):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(PipelineError, match=reason):
        require_usable_address()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host")
    require_usable_address()


def test_a_path_that_cannot_be_written_relative_to_the_working_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/what%3F/mlflow.db")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PipelineError, match=r"what\?/mlflow.db: from the folder .* cannot open a path with `\?` or `%`"
    ):
        require_usable_address()


def test_packages_below_a_percent_sign_are_refused(tmp_path):
    (tmp_path / "100%").mkdir()
    (tmp_path / "100%/venv").symlink_to(sys.prefix)
    python = tmp_path / "100%/venv" / Path(sys.executable).relative_to(sys.prefix)
    command = [python, "-m", "pipeline.check_params"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "MLflow is installed in" in done.stderr
    assert "100%" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["pipeline.check_params"], ["pipeline.demo", ".demo"], ["pipeline.ui", "5000"]])
def test_commands_refuse_the_folder_before_they_start(project, command):
    folder = project.rename(project.with_name("my%20data"))
    before = {path.name for path in folder.iterdir()}
    done = run(folder, *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "MLflow reads `%20`" in done.stderr
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite://", "which does not name a file"),
        ("sqlite:///:memory:", "which does not name a file"),
        ("sqlite:team.db", "which does not name a file"),
        ("sqlite+pysqlite:////team.db", "which does not name a file"),
        ("http://", "not a valid address"),
        ("http://[::1", "not a valid address"),
        ("http://host:port", "not a valid address"),
        ("http://me:SECRET/x@host", r"http://\*\*\*@host, which is not a valid address.*%40 for an `@`"),
        ("postgresql://me:SECRET@host/db", r"is the database postgresql://\*\*\*@host/db\. The files of runs"),
        ("postgresql+psycopg2://me:SECRET@host/db", "mlflow server"),
        ("mysql+pymysql://me:SECRET@host/db?ssl_key=SECRET", "mlflow server"),
        ("mssql+pyodbc://me:SECRET@host/db", "mlflow server"),
    ],
)
def test_an_address_that_cannot_serve_the_project_is_refused(monkeypatch, uri, message):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(PipelineError, match=message) as refusal:
        require_usable_address()
    assert "SECRET" not in str(refusal.value)


def test_an_address_is_shown_on_one_line_and_a_file_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host/\x1b[2J\n")
    assert displayed_uri() == r"http://host/\x1b[2J\n"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/me@work.db")
    assert displayed_uri() == f"sqlite:///{tmp_path}/me@work.db"
