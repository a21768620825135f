"""The search with Ray itself on this machine; tests/tuning/test_nodes.py has a cluster."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import pytest
import yaml
from PIL import Image
from projects import ENVIRONMENT, ROOT, as_clone, make, run, set_params, words

from pipeline.common.files import read_csv, read_json

PLACES = {
    "best_params": "best_params.json",
    "trials": "trials.csv",
    "coordinates": "coordinates.png",
    "times": "times.png",
}


@pytest.fixture
def ray_folder(monkeypatch):
    """Ray's folder for logs and sockets; the path of a socket may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        for environment in (os.environ, ENVIRONMENT):
            monkeypatch.setitem(environment, "RAY_TMPDIR", folder)
        yield Path(folder)


def epochs_trained(ray_folder):
    """The epochs that all trials of all processes have trained, by their logs."""
    logs = ray_folder.glob("ray/session_2*/logs/worker-*.out")
    return sum(len(re.findall(r"^epoch \d+/\d+ ", log.read_text(), re.MULTILINE)) for log in logs)


def runs(project):
    """The run of the search, and those of the trials by trial."""
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    (search,) = [each for each in found if "tune.search" in each.data.tags]
    trials = [each for each in found if each.data.tags.get("mlflow.parentRunId") == search.info.run_id]
    by_trial = {trial.data.tags["tune.trial"]: trial for trial in trials}
    assert len(by_trial) == len(trials)
    histories = {
        name: [metric.step for metric in client.get_metric_history(trial.info.run_id, "validation_accuracy")]
        for name, trial in by_trial.items()
    }
    return search, by_trial, histories


def tune_command(splits, out):
    inputs = {f"{name}_split": splits[name] for name in ("train", "validation")} | {"verdict": splits["verdict"]}
    return ["pipeline.tune", *words(inputs), *words({name: out / file for name, file in PLACES.items()})]


def test_make_tune_searches_and_its_last_line_trains_the_winner(project, ray_folder):
    as_clone(project)
    finished = make(project, "tune", "N=4")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert yaml.safe_load((project / "params.yaml").read_text())["tune"]["trials"] == 4
    lines = [line for line in finished.stdout.splitlines() if line.startswith("tune: ")]
    assert [line.split(" ")[2] for line in lines if " of 4 " in line] == ["1", "2", "3", "4"]

    rows = read_csv(project / "reports/tune/trials.csv")
    search, trials, histories = runs(project)
    assert {row["trial"] for row in rows} == set(trials)
    assert epochs_trained(ray_folder) == sum(int(row["epochs_trained"]) for row in rows)
    status = {"finished": "FINISHED", "stopped early": "KILLED"}
    for row in rows:
        trial, steps = trials[row["trial"]], histories[row["trial"]]
        assert (trial.info.status, trial.data.tags["tune.outcome"]) == (status[row["outcome"]], row["outcome"])
        assert steps == list(range(1, int(row["epochs_trained"]) + 1))
        assert (steps[-1] == int(row["epochs"])) == (row["outcome"] == "finished")
        assert trial.data.params["train.batch_size"] == row["batch_size"]
        assert trial.data.metrics["best_validation_accuracy"] == pytest.approx(float(row["validation_accuracy"]))
    assert search.info.status == "FINISHED"
    assert search.data.params["tune.trials"] == "4"
    artifacts = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db").list_artifacts(search.info.run_id)
    assert {each.path for each in artifacts} == set(PLACES.values())
    for name in ("coordinates", "times"):
        assert Image.open(project / f"reports/plots/tune/{name}.png").width > 700

    best = read_json(project / "reports/tune/best_params.json", "")
    winner = next(row for row in rows if row["outcome"] == "finished")
    assert (best["trial"], best["model"], best["epochs"]) == (winner["trial"], "basic", int(winner["epochs"]))
    assert not list((project / "models/.unfinished").iterdir())
    again = make(project, "tune")
    assert "Stage 'tune/dvc.yaml:tune' didn't change, skipping" in again.stdout

    command = next(line for line in finished.stdout.splitlines() if line.startswith("  dvc exp run "))
    trained = run(project, *shlex.split(command), "train")
    assert trained.returncode == 0, trained.stderr
    settings = yaml.safe_load((project / "params.yaml").read_text())["train"]
    assert {name: settings[name] for name in ("epochs", "batch_size", "shift", "cutout")} == {
        name: best[name] for name in ("epochs", "batch_size", "shift", "cutout")
    }
    assert settings["learning_rate"] == pytest.approx(best["learning_rate"], abs=1e-6)


def test_a_search_whose_driver_is_killed_continues_and_trains_no_epoch_twice(project, splits, tmp_path, ray_folder):
    set_params(project, tune={"trials": 3, "epochs": {"choices": [5]}, "first_check": 1.0})
    command = tune_command(splits, tmp_path / "out")
    driver = subprocess.Popen([sys.executable, "-m", *map(str, command)], cwd=project, env=os.environ)
    deadline = time.monotonic() + 120
    while epochs_trained(ray_folder) < 7 and time.monotonic() < deadline:  # in the second trial, or the third
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert 7 <= epochs_trained(ray_folder) < 15
    assert not (tmp_path / "out").exists()

    finished = run(project, *command)
    assert finished.returncode == 0, finished.stderr
    assert "tune: continues an interrupted search" in finished.stdout
    assert epochs_trained(ray_folder) - 15 in (0, 1, 2)  # an epoch is printed before its checkpoint is written
    rows = read_csv(tmp_path / "out/trials.csv")
    assert [(row["outcome"], row["epochs_trained"]) for row in rows] == [("finished", "5")] * 3
    search, trials, histories = runs(project)
    assert list(histories.values()) == [[1, 2, 3, 4, 5]] * 3
    assert {each.info.status for each in (search, *trials.values())} == {"FINISHED"}


def test_trials_that_diverge_fail_and_a_search_without_a_finished_trial_writes_nothing(project, splits, tmp_path):
    set_params(project, tune={"trials": 2, "epochs": {"choices": [1]}, "learning_rate": {"choices": [1e30]}})
    finished = run(project, *tune_command(splits, tmp_path / "out"))
    assert finished.returncode == 1
    assert re.search(r"trial 2 of 2 failed: the loss became (nan|inf) in epoch 1", finished.stdout)
    assert finished.stderr.startswith("tune: none of the 2 trials finished")
    assert "Traceback" not in finished.stderr
    assert not list((tmp_path / "out").glob("*"))
    search, trials, _ = runs(project)
    assert {each.info.status for each in (search, *trials.values())} == {"FAILED"}


@pytest.mark.parametrize("number", ["0.5", "many", "-1"])
def test_n_must_be_a_whole_number(project, number):
    shutil.copy(ROOT / "Makefile", project)
    before = (project / "params.yaml").read_bytes()
    (project / ".venv").symlink_to(sys.prefix)
    finished = make(project, "tune", f"N={number}")
    assert f"params: tune.trials should become '{number}', but it should be a whole number" in finished.stderr
    assert (project / "params.yaml").read_bytes() == before
