"""What the README says, against the project."""

import json
import re

import pytest
from conftest import ROOT, run, set_params

from benchmarks.ablation import ablation_table
from benchmarks.inference import inference_text
from benchmarks.readme import ABLATION, BEGIN, END, INFERENCE, RESULTS, TRAINING, put_between_marks, results_text
from benchmarks.rows import read_rows
from pipeline.errors import PipelineError

README = (ROOT / "README.md").read_text()


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for line in re.findall(r"(?:^    |`)make ([a-z ]+)", README, re.MULTILINE) for word in line.split()}
    assert named
    assert named <= targets


def test_every_file_it_links_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("reports/") or (ROOT / target).exists(), target  # reports/ is what a user's run makes


def test_its_numbers_are_those_of_the_last_benchmark():
    written = README.split(BEGIN)[1].split(END)[0].strip()
    results = json.loads((ROOT / RESULTS).read_text())
    assert written == results_text(results, read_rows(ROOT / TRAINING))


def test_a_pipeline_and_a_training_on_different_data_do_not_share_a_page():
    rows = {"fast, seed 0": {"conditions": {"data": "CIFAR-10"}}}
    with pytest.raises(PipelineError, match=r"is about generated images, .* about CIFAR-10: .*`make bench`"):
        results_text({"data": "generated images"}, rows)


def test_the_ablation_is_that_of_the_last_benchmark():
    written = (ROOT / "docs/training.md").read_text().split(BEGIN)[1].split(END)[0].strip()
    assert written == ablation_table(read_rows(ROOT / ABLATION))


def test_the_refusal_it_shows_is_the_real_one(project):
    set_params(project, train={"epochs": -1})
    said = run(project, "pipeline.train", *"abcdefg").stderr.splitlines()
    assert [f"    {line}" for line in said[:2]] == re.findall(
        r"^    train: params.*|^      train\..*", README, re.MULTILINE
    )


def test_the_speed_of_inference_is_that_of_the_last_benchmark():
    written = (ROOT / "docs/deployment.md").read_text().split(BEGIN)[1].split(END)[0].strip()
    assert written == inference_text(read_rows(ROOT / INFERENCE))


def test_writing_it_keeps_all_but_the_marked_part(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between_marks(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("command", ["", "help"])
def test_make_alone_lists_the_targets(command):
    import subprocess

    said = subprocess.run(["make", *command.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "setup",
        "demo",
        "repro",
        "reference",
        "evidence",
        "export",
        "rollback",
        "seeds",
        "test",
        "lint",
        "bench",
    ):
        assert re.search(rf"make {target} +\w", said)
