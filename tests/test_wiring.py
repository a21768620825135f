"""The structure: dvc.yaml against the code (DVC does not follow imports, treeverse/dvc #9195), and imports among modules."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from projects import ROOT

from pipeline.check_params import section_classes
from pipeline.common.params import named_paths
from pipeline.training.checkpoint import imported_files

DEFAULT = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
EVIDENCE = yaml.safe_load((ROOT / "evidence/dvc.yaml").read_text())["stages"]
TUNE = yaml.safe_load((ROOT / "tune/dvc.yaml").read_text())["stages"]
HIDDEN = TUNE | EVIDENCE
STAGES = DEFAULT | HIDDEN
EXACT = ("train", "suspect_labels")  # they take minutes: nothing that they do not import may run them again
PACKAGE = ROOT / "pipeline"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
COMMANDS = [file for file in FILES if "/" not in file]
LIBRARIES = [file for file in FILES if "/" in file]


def imports(file):
    """The project's files that a file imports itself, also inside functions and for type checkers."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pipeline":
            folder = "/".join(node.module.split(".")[1:])
            names = [f"{folder}.py", *(f"{folder}/{alias.name}.py".lstrip("/") for alias in node.names)]
            found |= {name for name in names if name in FILES}
    return found


def closure(file):
    """The file and everything of the project that it imports, directly or not."""
    found, waiting = set(), [file]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imports(file)
    return found


def code_deps(stage):
    return [dep.removeprefix("pipeline/") for dep in STAGES[stage]["deps"] if dep.startswith("pipeline/")]


def expanded(stage):
    """The Python files that DVC hashes for a stage: those named, and those in the folders named."""
    return {file for file in FILES for dep in code_deps(stage) if file == dep or file.startswith(f"{dep}/")}


def paths(entries):
    return [path for entry in entries for path in (entry if isinstance(entry, dict) else [entry])]


def written(stage):
    return set(paths(STAGES[stage].get("outs", [])) + paths(STAGES[stage].get("metrics", [])))


@pytest.mark.parametrize("stage", HIDDEN)
def test_no_output_of_a_hidden_stage_is_in_the_cache(stage):
    """`dvc checkout` deletes files of the cache that no visible stage lists."""
    outputs = HIDDEN[stage]["outs"] + HIDDEN[stage].get("metrics", [])
    assert [list(output.values()) for output in outputs] == [[{"cache": False}]] * len(outputs)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_everything_it_imports(stage):
    assert closure(f"{stage}.py") - expanded(stage) == set()


@pytest.mark.parametrize("stage", EXACT)
def test_a_long_stage_depends_on_nothing_else(stage):
    assert expanded(stage) == closure(f"{stage}.py")


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_exist_and_none_is_named_twice(stage):
    deps = code_deps(stage)
    assert all((PACKAGE / dep).exists() for dep in deps)
    assert not [dep for dep in deps for other in deps if dep.startswith(f"{other}/")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_templates_of_its_libraries(stage):
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    for path in others:
        folder = path.parent.relative_to(PACKAGE).as_posix()
        if any(file.startswith(f"{folder}/") for file in closure(f"{stage}.py")):
            assert folder in code_deps(stage), path


def test_the_code_dependencies_are_few_lines():
    assert sum(len(code_deps(stage)) for stage in STAGES) <= 83


@pytest.mark.parametrize("stage", STAGES)
def test_the_checkpoints_key_and_this_test_agree_on_what_is_imported(stage):
    files = {path.relative_to(PACKAGE).as_posix() for path in imported_files(PACKAGE / f"{stage}.py")}
    assert {file for file in files if not file.endswith("__init__.py")} == closure(f"{stage}.py")


@pytest.mark.parametrize("file", FILES)
def test_a_module_imports_others_by_from_only(file):
    """`imports` follows no other way."""
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        assert not (isinstance(node, ast.Import) and [each for each in node.names if each.name.startswith("pipeline")])
        assert not (isinstance(node, ast.ImportFrom) and node.level)


@pytest.mark.parametrize("file", LIBRARIES)
def test_no_library_imports_a_command(file):
    assert not imports(file) & set(COMMANDS)


@pytest.mark.parametrize("file", FILES)
def test_no_module_imports_itself_in_a_circle(file):
    assert file not in {each for imported in imports(file) for each in closure(imported)}


def test_each_init_holds_a_docstring_only():
    inits = list(PACKAGE.rglob("__init__.py"))
    assert {path.parent for path in inits} == {PACKAGE, *((PACKAGE / file).parent for file in LIBRARIES)}
    for path in inits:
        (statement,) = ast.parse(path.read_text()).body
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value.value, str)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_the_module_and_the_whole_section_of_its_name(stage):
    assert STAGES[stage]["cmd"].startswith(f"python -m pipeline.{stage} ")
    assert STAGES[stage]["params"] == ([stage] if stage != "report" else ["download.name"])


def arguments(stage):
    """The name=path arguments of a stage's command, as its function receives them."""
    return named_paths(getattr(import_module(f"pipeline.{stage}"), stage), STAGES[stage]["cmd"].split()[3:])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_command_names_what_it_reads_and_writes(stage):
    read = {path for path in STAGES[stage]["deps"] if not path.startswith("pipeline/")}
    order_only = {"export": {"reports/metrics/evaluate.json"}}.get(stage, set())
    named = [str(path) for path in arguments(stage).values()]
    assert sorted(named) == sorted((written(stage) | read) - order_only)
    assert set(named[-len(written(stage)) :]) == written(stage)  # inputs first, outputs last


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_is_one_file_in_all_stages(stage):
    shared = (
        "train_split",
        "validation_split",
        "test_split",
        "verdict",
        "model",
        "onnx_model",
        "predictions",
        "nearest",
    )
    for name, path in arguments(stage).items():
        if name in shared:
            assert {str(arguments(other)[name]) for other in STAGES if name in arguments(other)} == {str(path)}


def test_paths_of_hidden_stages_start_at_the_root():
    assert {facts["wdir"] for facts in HIDDEN.values()} == {".."}
    assert len(STAGES) == len(DEFAULT) + len(EVIDENCE) + len(TUNE)


def test_sections_of_params_are_the_stages_and_promote():
    sections = [*DEFAULT, "promote", *(stage for stage in HIDDEN if stage != "report")]
    assert sections == list(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert section_classes().keys() == set(sections)


def test_metrics_of_dvc_are_the_headline_files():
    metrics = [path for stage in STAGES.values() for path in paths(stage.get("metrics", []))]
    assert [Path(path).parent.as_posix() for path in metrics] == ["reports/headline"] * len(metrics)


def test_only_validation_evaluation_parity_and_evidence_read_the_test_split():
    readers = [stage for stage in STAGES if "data/splits/test.npz" in STAGES[stage]["deps"]]
    assert readers == ["validate", "evaluate", "export", "near_duplicates", "slices", "robustness"]
    archive = [stage for stage in STAGES if "data/raw/cifar-10-python.tar.gz" in STAGES[stage]["deps"]]
    assert archive == ["prepare"]


@pytest.mark.parametrize("file", FILES)
def test_no_module_contains_a_path_of_the_data(file):
    """Paths come from dvc.yaml, so the test above sees every reader."""
    source = (PACKAGE / file).read_text()
    assert "data/splits" not in source
    assert "test.npz" not in source


def test_of_the_make_targets_only_reference_and_seeds_get_the_test_split():
    """Statistics that validate compares later data with, and the accuracy of each seed; nothing is chosen by them."""
    commands = (ROOT / "Makefile").read_text().replace("\\\n", "")
    readers = [line.split("python -m ")[1].split(" ")[0] for line in commands.splitlines() if "test.npz" in line]
    assert readers == ["pipeline.reference", "pipeline.seeds"]


def test_of_what_has_seen_the_test_split_only_the_verdict_reaches_train():
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


def test_the_templates_of_plots_exist():
    plots = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    named = {
        plot["template"] for each in plots if isinstance(each, dict) for plot in each.values() if "template" in plot
    }
    assert named == {path.stem for path in (ROOT / ".dvc/plots").iterdir()}


def test_compiled_files_change_no_dependency():
    """Folders are dependencies, and DVC hashes every file in them (treeverse/dvc #2144)."""
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()
