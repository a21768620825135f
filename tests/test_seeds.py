import math

import pytest
from conftest import ROOT, run

from pipeline.seeds import spread_of, told


def test_the_spread_of_a_hand_made_case():
    found = spread_of("test_accuracy", [0.84, 0.85, 0.86])
    t2, t4 = 4.302653, 2.776445  # 97.5 % quantiles of Student's t with 2 and 4 degrees of freedom, from a table
    assert found == {
        "test_accuracy_mean": pytest.approx(0.85),
        "test_accuracy_standard_deviation": pytest.approx(0.01),
        "test_accuracy_lowest": 0.84,
        "test_accuracy_highest": 0.86,
        "test_accuracy_real_difference": pytest.approx(t2 * 0.01 * math.sqrt(2), rel=1e-5),
        "test_accuracy_real_difference_of_means": pytest.approx(t4 * 0.01 * math.sqrt(2 / 3), rel=1e-5),
    }


def test_it_is_told_in_words():
    summary = {"trainings": 3} | spread_of("validation_accuracy", [0.5] * 3)
    assert told(summary | spread_of("test_accuracy", [0.84, 0.85, 0.86])).splitlines()[3:] == [
        "  test accuracy: 85.00% on average, standard deviation 1.00%, 84.00% to 86.00%",
        "    two single trainings differ really from 6.08% on, two means of 3 from 2.27% on",
    ]


@pytest.mark.parametrize("count", ["", "1", "-3", "five"])
def test_another_count_is_refused(count, tmp_path):
    done = run(ROOT, "pipeline.seeds", count, tmp_path / "t.csv", tmp_path / "f.json")
    assert done.returncode == 1
    assert done.stderr == f"seeds: N is {count!r}, but it should be a whole number from 2. Run `make seeds N=5`.\n"


def test_where_dvc_fails_its_words_are_passed_on(tmp_path):
    done = run(tmp_path, "pipeline.seeds", 2, "t.csv", "f.json", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "seeds: `dvc exp run --temp --name seed-0 --set-param train.seed=0 evaluate` failed:" in done.stderr
    assert "you are not inside of a DVC repository" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "t.csv").exists()
