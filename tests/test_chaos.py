"""`make chaos` reports what it is made to find."""

import re
import sys
from types import SimpleNamespace

import pytest
from chaos import BEGIN, PAGE, kill_during, outputs, problem, rounds, table

from benchmarks.readme import END

SLEEPS = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep({})"]


@pytest.fixture
def project(tmp_path):
    """A project with one output."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.onnx").write_text("a")
    return SimpleNamespace(folder=tmp_path)


DONE = SimpleNamespace(returncode=0)


def test_the_same_outputs_are_no_problem(project):
    assert problem(project, DONE, outputs(project.folder), outputs) == ""


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("models/model.onnx", "b", "other content: models/model.onnx"),
        ("reports/new.csv", "b", "other content: reports/new.csv"),
        ("dist/.partial-bundle", "b", "partial files: .*dist/.partial-bundle"),
    ],
)
def test_a_file_that_differs_or_is_left_is_a_problem(project, file, text, found):
    expected = outputs(project.folder)
    (project.folder / file).parent.mkdir(exist_ok=True)
    (project.folder / file).write_text(text)
    assert re.fullmatch(found, problem(project, DONE, expected, outputs))


def test_a_missing_file_and_a_failed_second_run_are_problems(project):
    expected = outputs(project.folder)
    (project.folder / "models/model.onnx").unlink()
    assert problem(project, DONE, expected, outputs) == "other content: models/model.onnx"
    failed = SimpleNamespace(returncode=255, stdout="", stderr="is busy")
    assert problem(project, failed, expected, outputs) == "exit code 255: is busy"


@pytest.mark.parametrize(("seconds", "killed"), [(60, True), (0, False)])
def test_only_a_command_that_still_runs_counts_as_killed(tmp_path, seconds, killed):
    command = [*SLEEPS[:2], SLEEPS[2].format(seconds)]
    assert kill_during(tmp_path, command, 0.2 if killed else 30, "begun") is killed


def test_the_moments_depend_on_the_seed_only(project):
    project.restore = lambda: None
    project.undisturbed = lambda target, compared: compared(project.folder)
    project.stage = project.target = lambda *_: (True, DONE)
    names = ("download", "prepare", "validate", "train", "evaluate", "export", "make export", "make evidence")
    project.seconds = dict.fromkeys(names, 10.0)
    first, again, other = (list(rounds(project, 2, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert [row[0] for row in first] == [name for name in names for _ in range(2)]
    assert all(0 <= after <= seconds for _, seconds, after, _, _ in first)


def test_the_table_has_a_line_for_each_name_and_counts_what_went_wrong():
    rows = [("train", 9.04, 1.0, True, ""), ("train", 9.04, 9.0, False, ""), ("make export", 5.0, 2.5, True, "exit 1")]
    assert table(rows).splitlines()[2:] == [
        "| train | 2 | 9.0 | 1.0, 9.0 (had ended) | 2 of 2 |",
        "| `make export` | 1 | 5.0 | 2.5 | 0 of 1 |",
    ]


def test_the_page_has_the_figures_of_every_stage_and_all_rounds_ended_well():
    figures = [
        line.split(" | ")
        for line in PAGE.read_text().split(BEGIN)[1].split(END)[0].splitlines()
        if line.startswith("| ")
    ][1:]
    assert len(figures) == 8
    for line in figures:
        good, of, count = line[-1].strip(" |").split()
        assert (good, of) == (count, "of")
