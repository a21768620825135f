import math

import pytest
from projects import ROOT, run

from pipeline.seeds import describe, summarize


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
