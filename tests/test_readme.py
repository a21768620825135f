"""What the README says, against the project."""

import json
import re

import pytest
from conftest import ROOT, run, set_params

from benchmarks.readme import BEGIN, END, tables, write_readme

README = (ROOT / "README.md").read_text()


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for line in re.findall(r"(?:^    |`)make ([a-z ]+)", README, re.MULTILINE) for word in line.split()}
    assert named
    assert named <= targets


def test_every_file_it_links_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_numbers_are_those_of_the_last_benchmark():
    written = README.split(BEGIN)[1].split(END)[0].strip()
    assert written == tables(json.loads((ROOT / "benchmarks/results.json").read_text()))


def test_the_refusal_it_shows_is_the_real_one(project):
    set_params(project, train={"epochs": -1})
    said = run(project, "pipeline.train", *"abcdefg").stderr.splitlines()
    assert [f"    {line}" for line in said[:2]] == re.findall(
        r"^    train: params.*|^      train\..*", README, re.MULTILINE
    )


def test_writing_it_keeps_all_but_the_marked_part(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(ROOT / "benchmarks/results.json", tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text


@pytest.mark.parametrize("command", ["", "help"])
def test_make_alone_lists_the_targets(command):
    import subprocess

    said = subprocess.run(["make", *command.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "repro", "export", "test", "lint", "bench"):
        assert re.search(rf"make {target} +\w", said)
