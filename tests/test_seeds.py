import math
import os
import re
import shutil
import signal
import subprocess

import mlflow
import pytest
from namespaces import ADDRESS, cluster, wait_until, why_not
from projects import ENVIRONMENT, ROOT, as_clone, run, set_params

from pipeline.distributed.seeds import PROGRAM
from pipeline.seeds import describe, summarize
from pipeline.training.checkpoint import imported_files


def test_the_summary_of_a_hand_made_case():
    t2, t4 = 4.302653, 2.776445  # 97.5 % quantiles of Student's t with 2 and 4 degrees of freedom, from a table
    assert summarize([0.84, 0.85, 0.86]) == {
        "mean": pytest.approx(0.85),
        "standard_deviation": pytest.approx(0.01),
        "lowest": 0.84,
        "highest": 0.86,
        "seed_noise": pytest.approx(t2 * 0.01 * math.sqrt(2), rel=1e-5),
        "seed_noise_of_means": pytest.approx(t4 * 0.01 * math.sqrt(2 / 3), rel=1e-5),
    }


def test_the_summary_as_text():
    summaries = {"validation_accuracy": summarize([0.5] * 3), "test_accuracy": summarize([0.84, 0.85, 0.86])}
    assert describe(3, summaries).splitlines() == [
        "seeds: 3 trainings that differ only in their seed:",
        "  validation accuracy: mean 50.00 %, standard deviation 0.00 points, 50.00 to 50.00 %",
        "    differences above 0.00 points between two runs are larger than seed noise "
        "(0.00 points between two means of 3 runs)",
        "  test accuracy: mean 85.00 %, standard deviation 1.00 points, 84.00 to 86.00 %",
        "    differences above 6.08 points between two runs are larger than seed noise "
        "(2.27 points between two means of 3 runs)",
    ]


@pytest.mark.parametrize("count", ["", "1", "-3", "five"])
def test_a_wrong_count_is_refused(count, tmp_path):
    done = run(ROOT, "pipeline.seeds", count, tmp_path / "t.csv", tmp_path / "f.json")
    assert done.returncode == 1
    assert done.stderr == f"seeds: N is {count!r}, but it should be an integer of 2 or more. Run `make seeds N=5`.\n"


def test_if_dvc_fails_its_message_is_shown(tmp_path):
    done = run(tmp_path, "pipeline.seeds", 2, "t.csv", "f.json", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "seeds: `dvc exp run --temp --name seed-0 --set-param train.seed=0 evaluate` failed:" in done.stderr
    assert "you are not inside of a DVC repository" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "t.csv").exists()


EPOCHS = 20


def test_a_checkpoint_belongs_to_the_code_of_the_training():
    files = {path.relative_to(ROOT).as_posix() for path in imported_files(PROGRAM)}
    assert {"pipeline/training/fit.py", "pipeline/models/networks.py", "pipeline/models/muon.py"} < files


def make_seeds(machines, project):
    """`make seeds` on the cluster."""
    return machines.driver("make", "--old-file=.venv/installed", "seeds", "N=2", f"ADDRESS={ADDRESS}", cwd=project)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_on_a_cluster_whose_driver_and_then_a_machine_is_killed_the_table_is_that_of_one_machine(project, tmp_path):
    set_params(project, train={"epochs": EPOCHS}, tune={"storage": str(tmp_path / "shared"), "cpus": 1})
    as_clone(project)
    tables = project / "reports/seeds.csv", project / "reports/seeds.json"
    alone = subprocess.run(
        ["taskset", "--cpu-list", "0", "make", "--old-file=.venv/installed", "seeds", "N=2"],
        cwd=project,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert alone.returncode == 0, alone.stderr
    expected = [table.read_bytes() for table in tables]
    shutil.rmtree(project / "reports")

    with cluster(2) as machines:
        wait_until(lambda: len(machines.epochs_printed()) >= 3, killed := make_seeds(machines, project))
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        before = len(machines.epochs_printed())
        assert not tables[0].exists()
        wait_until(lambda: len(machines.epochs_printed()) >= before + 3, driver := make_seeds(machines, project))
        machines.kill(machines.names[1])
        assert len(machines.epochs_printed()) < 2 * EPOCHS
        output, errors = driver.communicate(timeout=300)
        trained = machines.epochs_printed()
        assert [path.name for path in (tmp_path / "shared").iterdir()] == ["splits"]
        set_params(project, train={"learning_rate": 1e30})
        _, message = make_seeds(machines, project).communicate(timeout=300)
    assert re.match(r"seeds: the training with seed \d failed: the loss became (nan|inf) in epoch 1 ", message)
    assert "Traceback" not in message
    assert (driver.returncode, errors) == (0, "")
    assert f"seeds: 2 trainings on the cluster at {ADDRESS}" in output
    assert [table.read_bytes() for table in tables] == expected
    assert len(trained) - 2 * EPOCHS in range(4)  # an epoch is printed before its checkpoint is written

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    runs = [each for each in found if "dvc_exp_name" not in each.data.tags]
    assert sorted(each.info.run_name for each in runs) == ["seed-0", "seed-1"]
    for each in runs:
        assert each.info.status == "FINISHED"
        assert each.data.params["train.seed"] == each.info.run_name[-1]
        history = client.get_metric_history(each.info.run_id, "validation_accuracy")
        assert [metric.step for metric in history] == list(range(1, EPOCHS + 1))
        assert "test_accuracy" in each.data.metrics
