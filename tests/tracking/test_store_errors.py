"""Failures of real stores: the remedy fits the cause, and no message contains a credential."""

import errno
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from projects import ROOT
from servers import free_port, mirror, mlflow_server
from stores import empty_store

from pipeline.common.errors import PipelineError
from pipeline.tracking.runs import training_run
from pipeline.tracking.store import connect
from pipeline.tracking.store_errors import cause_of, explain_store_errors

CREDENTIAL = "S3CRET"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return tmp_path


def refusal_of(monkeypatch, uri):
    """The message of a training that cannot start."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(PipelineError) as refusal, training_run({}):
        pytest.fail("the block started")
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (401, b"", "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
        (403, b"", "ask who runs the server for the permission"),
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "with `--allowed-hosts`"),
        (404, b"not found", "No MLflow server answers at that address: correct MLFLOW_TRACKING_URI"),
        (200, b"<html>Welcome\x1b[2J</html>", "No MLflow server answers at that address: correct MLFLOW_TRACKING_URI"),
        (429, b"", "wait, then run the same command again"),
        (500, b"broken", "The server itself fails: its log says why"),
        (503, b"", "The server itself fails: its log says why"),
    ],
)
def test_the_remedy_fits_the_answer_of_a_server(monkeypatch, status, body, remedy):
    with mirror(lambda request: request.send(status, body)) as server:
        message = refusal_of(monkeypatch, server.url.replace("http://", f"http://me:{CREDENTIAL}@"))
    assert message.startswith("cannot record in the MLflow store http://***@127.0.0.1:")
    assert remedy in message
    assert "unset" not in message
    assert CREDENTIAL not in message
    assert "\x1b" not in message


START = "Start that server or correct MLFLOW_TRACKING_URI, or unset it to record in mlflow.db"


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("http://127.0.0.1:9", START),
        ("http://no-such-host.invalid", START),
        ("https://me:{0}@127.0.0.1:9?token={0}", START),
        ("http://me:{0}@{0}@127.0.0.1:9", START),
        ("ftp://me:{0}@host", "Set it to https://HOST or sqlite:///FILE"),
        ("mlruns", "Set it to https://HOST or sqlite:///FILE"),
        ("uc:me:{0}@host", "Set it to https://HOST or sqlite:///FILE"),
    ],
)
def test_the_remedy_fits_the_address(monkeypatch, uri, remedy):
    message = refusal_of(monkeypatch, uri.format(CREDENTIAL))
    assert remedy in message
    assert CREDENTIAL not in message


def test_a_server_without_tls_is_not_asked_with_tls(monkeypatch):
    with mirror() as server:
        message = refusal_of(monkeypatch, server.url.replace("http:", "https:"))
    assert "That port does not use TLS: set MLFLOW_TRACKING_URI to http://" in message


def test_a_wrong_certificate_file_is_named(monkeypatch, root):
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", f"{root}/none.pem")
    message = refusal_of(monkeypatch, "https://127.0.0.1:9")
    assert "none.pem" in message
    assert "correct or unset them" in message


def a_folder(root):
    (root / "m.db").mkdir()


def no_database(root):
    (root / "m.db").write_text("This is a letter, not a database, although its name says so.")


def a_file_in_the_path(root):
    (root / "m.db").write_text("")
    return f"sqlite:///{root}/m.db/below/mlflow.db"


def read_only(root):
    empty_store(root / "m.db")
    return f"sqlite:///file:{root}/m.db?mode=ro&uri=true"


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (a_folder, "unable to open database file. It should be a file, in a folder in which you can read and write"),
        (no_database, "file is not a database. Restore a copy of the file, or move it away"),
        (a_file_in_the_path, "Not a directory: "),
        (read_only, "attempt to write a readonly database. Make the file and its folder writable"),
    ],
)
def test_the_remedy_fits_the_state_of_a_file(monkeypatch, root, prepare, message):
    refusal = refusal_of(monkeypatch, prepare(root) or f"sqlite:///{root}/m.db")
    assert message in refusal
    assert "Start that server" not in refusal


def test_a_locked_file_and_a_full_disk_have_their_own_remedies(root):
    empty_store(root / "m.db")
    with closing(sqlite3.connect(root / "m.db")) as first, closing(sqlite3.connect(root / "m.db", timeout=0)) as second:
        first.execute("BEGIN EXCLUSIVE")
        with (
            pytest.raises(PipelineError, match=r"database is locked\. Wait until the other program"),
            explain_store_errors(),
        ):
            second.execute("SELECT * FROM runs")
        first.rollback()
        second.execute("PRAGMA max_page_count = 1")
        with pytest.raises(PipelineError, match=r"database or disk is full\. Free disk space"), explain_store_errors():
            second.execute("CREATE TABLE more AS SELECT randomblob(100000)")
    with pytest.raises(PipelineError, match=r"No space left on device\. Free disk space"), explain_store_errors():
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_package_that_is_missing_for_the_servers_files_is_named(root):
    message = r"No module named 'no_such_client'\. Install that package"
    with pytest.raises(PipelineError, match=message), explain_store_errors():
        __import__("no_such_client")


def test_an_unknown_cause_gets_no_remedy():
    with pytest.raises(PipelineError, match=r": the moon is full\.$"), explain_store_errors():
        raise OSError("the moon is full")


def test_a_missing_local_file_is_not_an_error_of_the_store(root):
    with pytest.raises(FileNotFoundError), explain_store_errors():
        open("curves.csv")  # noqa: SIM115


def test_a_deleted_experiment_can_be_restored_with_the_command_in_the_message(monkeypatch, root):
    client = connect()
    experiment = client.get_experiment_by_name("cifar10")
    client.delete_experiment(experiment.experiment_id)
    message = refusal_of(monkeypatch, f"sqlite:///{root}/mlflow.db")
    assert f"the experiment cifar10 of sqlite:///{root}/mlflow.db is deleted" in message
    assert f"mlflow experiments restore --experiment-id {experiment.experiment_id}`" in message
    client.restore_experiment(experiment.experiment_id)
    connect()


@pytest.mark.parametrize(
    "text",
    [
        "cannot open 'https://me:S3CRET@host/path'",
        "403 for url: https://bucket/key?X-Amz-Signature=S3CRET&x=1",
        "'me:S3CRET' is not a valid host or port",
        "Failed to resolve 'pa@S3CRET@host'",
        "Failed to resolve 'S3CRET@host'",
        "Failed to parse me:pa%40S3CRET",
        "no such key: QUERY or QU%45RY",
        "invalid literal for int() with base 10: 'S3CRET'",
        "login T0KEN was refused",
        "no proxy http://a:S3CRET@proxy:1",
    ],
)
def test_causes_contain_no_credentials(monkeypatch, text):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pa%40S3CRET@host/path?key=QU%45RY")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "T0KEN")
    cause = cause_of(OSError(text))
    assert "S3CRET" not in cause
    assert "T0KEN" not in cause
    assert "QU" not in cause


def test_a_cause_is_short_and_on_one_line():
    assert cause_of(OSError("\x1b[2J" + "x" * 10_000)) == r"\x1b[2J" + "x" * 196 + " ..."


RECORD = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pipeline.tracking.runs import run_with_model, training_run
from toy_models import colour_model
import mlflow
with training_run({{}}):
    mlflow.onnx.log_model(colour_model(), name="model", save_as_external_data=False)
with run_with_model("abc", lambda: None):
    pass
"""


@pytest.mark.parametrize("remote", ["https://me:S3CRET@host/team/repository.git", "https://S3CRET@host/repository"])
def test_nothing_that_is_recorded_or_printed_contains_a_credential(monkeypatch, root, remote):
    port, project = free_port(), root / "project"
    project.mkdir()
    for command in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *command], cwd=project, check=True)
    identity = ["-c", "user.name=n", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "first"], cwd=project, check=True)
    (project / "record.py").write_text(RECORD.format(root=str(ROOT), tests=str(ROOT / "tests")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{CREDENTIAL}@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", CREDENTIAL)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CREDENTIAL)
    with mlflow_server(root, port):
        done = subprocess.run([sys.executable, "record.py"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert CREDENTIAL not in done.stdout + done.stderr
    recorded = [path.read_bytes() for path in root.rglob("*") if path.is_file() and project not in path.parents]
    assert any(b"host/" in content for content in recorded)  # the git remote is recorded
    assert not any(CREDENTIAL.encode() in content for content in recorded)
