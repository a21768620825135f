"""dvc.yaml against the code: DVC follows no imports (treeverse/dvc #9195), so a forgotten dependency goes unseen."""

import ast

import pytest
import yaml
from conftest import ROOT

from pipeline.check_params import SECTIONS

DEFAULT = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
EVIDENCE = yaml.safe_load((ROOT / "evidence/dvc.yaml").read_text())["stages"]
STAGES = DEFAULT | EVIDENCE


def imported(module, seen=None):
    """Files of the project's modules that `module` imports, itself included, however deep."""
    seen = set() if seen is None else seen
    path = f"pipeline/{module}.py"
    if path in seen:
        return seen
    seen.add(path)
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
            names = [node.module.removeprefix("pipeline.")]
        else:
            names = []
        for name in names:
            imported(name, seen)
    return seen


def paths(entries):
    return [path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_it_imports_and_no_other(stage):
    modules = {path for path in STAGES[stage]["deps"] if path.startswith("pipeline/")}
    assert modules == imported(stage)


def test_modules_import_each_other_by_from_pipeline_alone():
    """The walk above follows no other way of importing."""
    for path in (ROOT / "pipeline").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (
                isinstance(node, ast.Import) and [name for name in node.names if name.name.startswith("pipeline")]
            )
            assert not (isinstance(node, ast.ImportFrom) and node.level)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_the_module_and_the_whole_section_of_its_name(stage):
    assert STAGES[stage]["cmd"].startswith(f"python -m pipeline.{stage} ")
    assert STAGES[stage]["params"] == ([stage] if stage != "report" else ["download.name"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_command_names_what_it_reads_and_writes(stage):
    outputs = paths(STAGES[stage].get("outs", [])) + paths(STAGES[stage].get("metrics", []))
    read = [path for path in STAGES[stage]["deps"] if not path.startswith("pipeline/")]
    order_only = {"export": ["reports/metrics/evaluate.json"]}.get(stage, [])
    named = STAGES[stage]["cmd"].split()[3:]
    assert sorted(named) == sorted(set(outputs + read) - set(order_only))
    assert set(named[-len(outputs) :]) == set(outputs)  # inputs first, outputs last


def test_evidence_speaks_of_paths_from_the_root():
    assert {facts["wdir"] for facts in EVIDENCE.values()} == {".."}
    assert not DEFAULT.keys() & EVIDENCE.keys()


def test_sections_of_params_are_the_stages_and_release():
    sections = [*DEFAULT, "release", *(stage for stage in EVIDENCE if stage != "report")]
    assert sections == list(SECTIONS) == list(yaml.safe_load((ROOT / "params.yaml").read_text()))


def test_only_checks_scores_parity_and_evidence_read_the_test_split():
    readers = [stage for stage in STAGES if "data/splits/test.npz" in STAGES[stage]["deps"]]
    assert readers == ["validate", "evaluate", "export", "near_duplicates", "slices", "robustness"]
    archive = [stage for stage in STAGES if "data/raw/cifar-10-python.tar.gz" in STAGES[stage]["deps"]]
    assert archive == ["prepare"]


def test_no_module_knows_a_path_of_the_data():
    """Paths come from dvc.yaml, so the test above sees every reader."""
    for path in (ROOT / "pipeline").glob("*.py"):
        assert "data/splits" not in path.read_text(), path
        assert "test.npz" not in path.read_text(), path


def test_of_the_make_targets_only_reference_is_given_the_test_split():
    """It keeps what validate compares later data with; nothing is chosen by it."""
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if "test.npz" in line]
    assert len(lines) == 1
    assert "python -m pipeline.reference " in lines[0]


def written(stage):
    return set(paths(STAGES[stage].get("outs", [])) + paths(STAGES[stage].get("metrics", [])))


def test_nothing_that_saw_the_test_split_reaches_train_but_the_verdict():
    before, waiting = set(), ["train"]
    while waiting:
        deps = set(STAGES[waiting.pop()]["deps"])
        found = {stage for stage in STAGES if written(stage) & deps} - before
        before |= found
        waiting += found
    assert before == {"download", "prepare", "validate"}
    assert set(STAGES["train"]["deps"]) & written("validate") == {"reports/metrics/validate.json"}


def test_no_stage_depends_on_wall_times():
    assert not [stage for stage in STAGES if "reports/metrics/train_timing.json" in STAGES[stage]["deps"]]


def test_the_download_survives_a_forced_run():
    assert STAGES["download"]["outs"] == [{"data/raw/cifar-10-python.tar.gz": {"persist": True}}]
