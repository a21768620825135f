import sqlite3
from contextlib import closing

import pytest
import requests
from servers import free_port, mlflow_server
from sqlalchemy import event
from sqlalchemy.pool import Pool
from stores import clone_run, empty_store

from pipeline.common.errors import PipelineError
from pipeline.registry.competitors import ARTIFACTS, PAGE, competing_runs
from pipeline.tracking.store import connect

FILES = "mlflow-artifacts/artifacts"
DATA = {"archive_sha256": "ab" * 32, "splits_sha256": "cd" * 32}


@pytest.fixture
def file(tmp_path):
    """The sqlite file of an empty store."""
    empty_store(tmp_path / "server.db")
    return tmp_path / "server.db"


@pytest.fixture
def client(tmp_path, file, monkeypatch):
    """A client of a tracking server with that store."""
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(tmp_path, port):
        yield connect()


@pytest.fixture
def asked(monkeypatch):
    """The paths of all requests to the server."""
    paths, send = [], requests.Session.request

    def request(session, method, url, *arguments, **settings):
        paths.append(url.partition("/api/2.0/")[2].split("?")[0])
        return send(session, method, url, *arguments, **settings)

    monkeypatch.setattr(requests.Session, "request", request)
    return paths


def add_run(accuracy):
    import mlflow

    with mlflow.start_run(tags=DATA | {"parity_passed": "true"}) as run:
        mlflow.log_metric("best_validation_accuracy", accuracy)
        for name in ARTIFACTS:
            mlflow.log_text("text", name if "." in name else f"{name}/a.txt")
    return run.info.run_id


def test_the_best_of_a_thousand_runs_is_found_with_a_bounded_number_of_requests(client, file, asked):
    run = add_run(0.5)
    *_, best = clone_run(file, run, [0.5 + i / 4000 for i in range(1000)])
    asked.clear()
    assert next(competing_runs(client, DATA)).info.run_id == best
    assert asked == ["mlflow/experiments/get-by-name", "mlflow/runs/search", "mlflow/runs/get", FILES]


def test_files_are_listed_in_the_order_of_accuracy_until_a_run_has_them(client, file, asked):
    run = add_run(0.5)
    clone_run(file, run, [0.9] * (2 * PAGE + 20), has_files=False)
    asked.clear()
    assert next(competing_runs(client, DATA)).info.run_id == run
    assert (asked.count("mlflow/runs/search"), asked.count(FILES)) == (3, 2 * PAGE + 21)


def test_each_run_competes_once_best_first(client, file):
    run = add_run(0.5)
    accuracies = [0.5 + i / 400 for i in range(1, PAGE + 30)]
    clones = clone_run(file, run, accuracies)
    assert [found.info.run_id for found in competing_runs(client, DATA)] == [*reversed(clones), run]


@pytest.fixture
def steps():
    """Grows by one with every 1,000 instructions of SQLite."""
    counted = []

    def count(connection, *_):
        connection.set_progress_handler(lambda: counted.append(1), 1000)

    event.listen(Pool, "checkout", count)
    yield counted
    event.remove(Pool, "checkout", count)


def test_a_search_in_sqlite_does_not_compare_each_run_with_each_run(tmp_path, monkeypatch, steps):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    client = connect()
    clone_run(tmp_path / "mlflow.db", add_run(0.5), [0.5 + i / 4000 for i in range(2000)])
    steps.clear()
    next(competing_runs(client, DATA))
    assert len(steps) < 1000


def test_an_experiment_that_was_deleted_after_the_connection_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    client = connect()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("DELETE FROM experiments")
    with pytest.raises(PipelineError, match=r"the experiment cifar10 of sqlite:.* was deleted just now"):
        next(competing_runs(client, DATA))


@pytest.mark.parametrize(("data", "archive"), [(DATA, "abababab"), (DATA | {"archive_sha256": "ef" * 32}, "efefefef")])
def test_runs_without_files_or_on_other_data_do_not_compete(tmp_path, monkeypatch, data, archive):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    client, run = connect(), add_run(0.5)
    clone_run(tmp_path / "mlflow.db", run, [0.6], has_files=False)
    if data == DATA:
        client.delete_run(run)
    with pytest.raises(PipelineError, match=rf"no finished run with an exported model .* \(archive {archive}\)"):
        list(competing_runs(client, data))
