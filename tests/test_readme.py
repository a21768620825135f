"""README.md and docs/, compared with the project."""

import re
import subprocess

import pytest
from projects import ROOT, run, set_params

from benchmarks.readme import BEGIN, END, RESULTS, TRAINING, generated_texts, replace_generated, require_same_data
from benchmarks.rows import read_rows
from pipeline.common.errors import PipelineError
from pipeline.common.files import read_json

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES_OF_FIGURES = ("results", "evidence", "training", "drift", "deployment", "own-pictures")
GENERATED = ["README.md", *(f"docs/{name}.md" for name in PAGES_OF_FIGURES)]
MOST_WORDS, LONGEST_LINE = 1_200, 120


def targets():
    return set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


def prose(page):
    """The lines of a page, without code blocks, tables and the generated part."""
    text = re.sub(rf"{BEGIN}.*?{END}", "", page.read_text(), flags=re.DOTALL)
    lines = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    return [line for line in lines if not line.startswith(("    ", "|"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page):
    named = re.findall(r"(?:^    |`)make ([a-z ]+)", page.read_text(), re.MULTILINE)
    assert {word for line in named for word in line.split()} <= targets()
    assert named or page.name == "results.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_linked_exists(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_the_code_that_is_named_exists(page):
    names = re.findall(r"`((?:pipeline|benchmarks|tests|docs)/[\w/.]*)`", page.read_text())
    for name in (name for name in names if "NAME" not in name):
        assert (ROOT / name).exists(), name


def test_the_readme_is_short():
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page):
    assert [line for line in prose(page) if len(line) > LONGEST_LINE] == []


def test_the_folders_of_the_code_are_all_listed():
    listed = re.findall(r"^      (\w+)/ ", README, re.MULTILINE)
    assert sorted(listed) == sorted(path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py"))


@pytest.mark.parametrize("page", GENERATED)
def test_the_generated_part_is_that_of_the_saved_figures(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    written = (ROOT / page).read_text().split(BEGIN)[1].split(END)[0].strip()
    assert written == generated_texts(read_rows(TRAINING))[page]


def test_the_output_of_make_repro_has_the_saved_figures():
    metrics = read_json(ROOT / RESULTS, "")["metrics"]
    evaluated, exported = metrics["evaluate"], metrics["export"]
    for line in (
        f"evaluate: accuracy {evaluated['accuracy']:.4f} (95 % interval {evaluated['accuracy_low']:.4f} to "
        f"{evaluated['accuracy_high']:.4f}) on {evaluated['images']:,} test images, "
        f"macro F1 {evaluated['macro_f1']:.4f}",
        f"export: models/model.onnx, {exported['bytes']:,} bytes; largest difference from Keras on "
        f"{exported['parity_images']:,} test images {exported['parity_max_abs_difference']:.1e}, "
        f"{exported['parity_argmax_disagreements']} with another class",
    ):
        assert f"    {line}\n" in README


def test_a_page_does_not_show_a_pipeline_and_trainings_on_different_data():
    rows = {"fast, seed 0": {"conditions": {"data": "CIFAR-10"}}}
    with pytest.raises(PipelineError, match=r"is about generated images, .* about CIFAR-10, .*`make bench`"):
        require_same_data({"data": "generated images"}, rows)


def test_the_refusal_that_it_shows_is_the_real_one(project):
    set_params(project, train={"epochs": -1})
    printed = run(project, "pipeline.train").stderr.splitlines()
    assert [f"    {line}" for line in printed[:2]] == re.findall(
        r"^    train: params.*|^      train\..*", README, re.MULTILINE
    )


def test_the_messages_in_its_table_are_in_the_code():
    table = README.split("## When something fails")[1]
    code = "".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    messages = re.findall(r"^\| `(?:\w+: )?([^`]+)`", table, re.MULTILINE)
    assert len(messages) >= 6
    for message in messages:
        for part in re.split(r"N of M | N \.\.\.: | nan", message):
            assert part in code, part


def test_only_the_part_between_the_markers_is_replaced(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    replace_generated(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("command", ["", "help"])
def test_make_lists_all_targets_in_lines_of_100_columns(command):
    printed = subprocess.run(["make", *command.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"^  make (\w+) +\w", printed, re.MULTILINE))
    assert named == targets()
    assert {"setup", "demo", "repro", "ui", "reference", "evidence", "export", "rollback", "seeds"} < named
    assert {"test", "lint", "bench", "lock"} < named
    assert max(map(len, printed.splitlines())) <= 100
