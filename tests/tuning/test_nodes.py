"""A search on a cluster of three machines, of which one dies."""

import sys

import mlflow
import pytest
from namespaces import cluster, wait_until, why_not
from projects import set_params, words

from pipeline.common.files import read_csv

OUTPUTS = {"best_params": "b.json", "trials": "t.csv", "coordinates": "c.png", "times": "t.png"}
EPOCHS = 8


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_trials_of_a_machine_that_dies_continue_on_another_from_their_last_epoch(project, splits, tmp_path):
    choices = {"epochs": {"choices": [EPOCHS]}, "first_check": 1.0, "trials": 4, "storage": str(tmp_path / "shared")}
    set_params(project, tune=choices)
    inputs = {f"{name}_split": splits[name] for name in ("train", "validation")} | {"verdict": splits["verdict"]}
    command = [sys.executable, "-m", "pipeline.tune", *words(inputs)]
    command += words({name: tmp_path / "out" / file for name, file in OUTPUTS.items()})
    with cluster(2) as machines:
        driver = machines.driver(*command, cwd=project)
        wait_until(lambda: len(machines.epochs_printed()) >= EPOCHS // 2, driver)
        machines.kill(machines.names[1])
        output, errors = driver.communicate(timeout=300)
        trained = machines.epochs_printed()
    assert driver.returncode == 0, errors
    assert errors == ""
    assert "tune: the process of a trial died; it continues after epoch " in output
    rows = read_csv(tmp_path / "out/t.csv")
    assert [(row["outcome"], row["epochs_trained"]) for row in rows] == [("finished", str(EPOCHS))] * 4
    assert len(trained) - 4 * EPOCHS in (0, 1)  # 1: the epoch was printed, and its checkpoint not yet written
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    runs = client.search_runs(
        [client.get_experiment_by_name("cifar10").experiment_id], "tags.tune.outcome = 'finished'"
    )
    assert len(runs) == 4
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
    assert len(list((tmp_path / "shared/splits").iterdir())) == 2
