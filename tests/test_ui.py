"""`make ui` against MLflow's real server on loopback."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import psutil
import pytest
from projects import ROOT, run
from servers import free_port, mlflow_server

PAGE = r"ui: (http://127\.0\.0\.1:{port}/)#/experiments/(\w+)/runs\?workflowType=machine_learning"


@pytest.fixture
def folder(tmp_path):
    """A folder in which `python -m pipeline.ui` works; its mlflow.db is the store."""
    (tmp_path / "a repository").mkdir()
    (tmp_path / "a repository/pipeline").symlink_to(ROOT / "pipeline")
    return tmp_path / "a repository"


def fill(uri, *experiments):
    """Make the experiments in the store, a run in each; their ids by name."""
    import mlflow

    client, ids = mlflow.MlflowClient(uri), {}
    for name in ("an older one", *experiments):
        ids[name] = client.create_experiment(name, "file:///nowhere")
        client.create_run(ids[name])
    return ids


def store_of(folder):
    return f"sqlite:///{folder}/mlflow.db"


@contextmanager
def started(folder, port, **environment):
    """The program, in a process group of its own as in a shell."""
    command = [sys.executable, "-m", "pipeline.ui", str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=os.environ | environment, process_group=0, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for each in (*psutil.Process(process.pid).children(recursive=True), process):
                    each.kill()


def served_experiment(line, port):
    """The experiment of the printed address, after a look at what is served there."""
    address, experiment = re.fullmatch(PAGE.format(port=port), line.strip()).groups()
    with urllib.request.urlopen(address) as page:
        assert "<title>MLflow</title>" in page.read().decode()
    with urllib.request.urlopen(f"{address}api/2.0/mlflow/experiments/get?experiment_id={experiment}") as found:
        assert found.status == 200
    return experiment


@pytest.mark.parametrize(
    ("experiments", "chosen", "stop"),
    [(["demo", "cifar10"], "cifar10", signal.SIGINT), (["demo"], "demo", signal.SIGTERM)],
)
def test_it_prints_an_address_that_answers_and_ends_quietly_with_its_server(folder, experiments, chosen, stop):
    ids, port = fill(store_of(folder), *experiments), free_port()
    with started(folder, port) as process:
        assert served_experiment(process.stdout.readline(), port) == ids[chosen]
        servers = psutil.Process(process.pid).children(recursive=True)
        assert servers
        os.killpg(process.pid, stop)
        assert process.wait(30) in (0, 130)
        assert process.stderr.read() == ""
        psutil.wait_procs(servers, timeout=10)
        assert not [server for server in servers if server.is_running()]


def test_an_experiment_named_in_the_environment_comes_first(folder):
    ids, port = fill(store_of(folder), "cifar10", "mine"), free_port()
    with started(folder, port, MLFLOW_EXPERIMENT_NAME="mine") as process:
        assert served_experiment(process.stdout.readline(), port) == ids["mine"]
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_it_serves_the_store_of_a_folder_with_an_odd_name(folder):
    ids, port = fill(store_of(folder), "cifar10"), free_port()
    folder = folder.rename(folder.with_name("""50% off? "a"#b;&é"""))
    with started(folder, port) as process:
        assert served_experiment(process.stdout.readline(), port) == ids["cifar10"]
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_errors_of_the_server_are_shown(folder):
    fill(store_of(folder), "cifar10")
    done = run(folder, "pipeline.ui", free_port(), MLFLOW_GUNICORN_OPTS="--bad")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Usage: python -m mlflow server" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ui: the MLflow server ended with exit code 2.")


def test_with_a_tracking_server_its_address_is_printed_and_nothing_is_started(folder, tmp_path):
    port = free_port()
    with mlflow_server(tmp_path, port):
        ids = fill(f"http://127.0.0.1:{port}", "cifar10")
        done = run(folder, "pipeline.ui", 5000, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}/")
        assert (done.returncode, done.stderr) == (0, "")
        assert served_experiment(done.stdout, port) == ids["cifar10"]


def test_a_tracking_server_that_does_not_answer_is_reported(folder):
    address = f"http://user:secret@127.0.0.1:{free_port()}"
    done = run(folder, "pipeline.ui", 5000, MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 1
    assert "ui: cannot record in the MLflow store http://***@127.0.0.1" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_a_port_in_use_is_refused(folder):
    fill(store_of(folder), "cifar10")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(folder, "pipeline.ui", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"ui: cannot use port {port} of 127.0.0.1: Address already in use. Stop the program that uses it, or run "
        "`make ui PORT=5050`.\n"
    )


@pytest.mark.parametrize("port", ["", "many", "0", "65536"])
def test_a_number_that_is_not_a_port_is_refused(folder, port):
    done = run(folder, "pipeline.ui", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"ui: PORT is {port!r}, but it should be a number from 1 to 65535. Run `make ui PORT=5050`.\n"
    )


def test_without_a_store_it_names_the_commands_that_make_one(folder):
    done = run(folder, "pipeline.ui", free_port())
    assert done.returncode == 1
    assert done.stderr == (
        f"ui: there is no MLflow store {folder}/mlflow.db yet. Run `make demo` or `make repro`, then `make ui`.\n"
    )
    assert [path.name for path in folder.iterdir()] == ["pipeline"]
