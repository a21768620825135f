"""`.ci/compare`: two demos side by side."""

import json
import shutil
import subprocess

import pytest
import yaml
from projects import ROOT


@pytest.fixture
def checkouts(tmp_path):
    """Two folders whose paths have a space, with the reports that DVC shows."""
    folders = [tmp_path / "the base", tmp_path / "the head"]
    for folder, accuracy in zip(folders, (0.75, 0.8125), strict=True):
        (folder / ".demo/reports/headline").mkdir(parents=True)
        (folder / ".demo/reports/plots").mkdir()
        shutil.copy(ROOT / "dvc.yaml", folder / ".demo")
        (folder / ".demo/reports/headline/evaluate.json").write_text(json.dumps({"accuracy": accuracy}))
        (folder / ".demo/reports/plots/curves.csv").write_text(
            f"epoch,accuracy,validation_accuracy,loss,validation_loss\n1,0.5,{accuracy},1,1\n"
        )
        (folder / ".demo/reports/predictions.csv").write_text("actual,predicted\ncat,dog\n")
        (folder / ".demo/reports/reliability.csv").write_text("confidence,accuracy\n0.5,0.5\n")
    shutil.copytree(ROOT / ".dvc/plots", folders[1] / ".dvc/plots")
    (folders[1] / ".venv").symlink_to(ROOT / ".venv")
    return folders


def compare(*folders):
    return subprocess.run([ROOT / ".ci/compare", *folders], capture_output=True, text=True)


def test_metrics_and_plots_of_both_are_shown(checkouts, tmp_path):
    done = compare(*checkouts, tmp_path / "the result")
    assert done.returncode == 0, done.stderr
    summary = (tmp_path / "the result/summary.md").read_text()
    assert done.stdout == summary
    (row,) = [line for line in summary.splitlines() if "evaluate.json" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")[1:]] == ["accuracy", "0.75", "0.8125", "0.0625"]
    page = (tmp_path / "the result/plots/index.html").read_text()
    assert page.count("workspace") >= 1
    assert "0.8125" in page
    assert "0.75" in page


def test_equal_metrics_are_named_so(checkouts, tmp_path):
    done = compare(checkouts[1], checkouts[1], tmp_path / "result")
    assert "\nNo metric changed.\n" in done.stdout


def test_a_checkout_without_a_demo_is_an_error(checkouts, tmp_path):
    shutil.rmtree(checkouts[0] / ".demo")
    done = compare(*checkouts, tmp_path / "result")
    assert done.returncode != 0
    assert ".demo/reports" in done.stderr


def test_the_workflow_runs_it_on_pull_requests():
    workflow = yaml.safe_load((ROOT / ".github/workflows/compare.yml").read_text())
    assert "pull_request" in workflow[True]  # YAML 1.1 reads `on` so
    commands = [step["run"] for step in workflow["jobs"]["compare"]["steps"] if "run" in step]
    assert any("head/.ci/compare base head comparison" in command for command in commands)
