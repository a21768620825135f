import os
import subprocess
import sys

import pytest
from projects import ROOT

from pipeline.common.errors import PipelineError
from pipeline.common.files import (
    atomic_outputs,
    read_csv,
    read_json,
    removed_on_failure,
    sha256_of,
    write_csv,
    write_json,
)


def test_a_file_gets_its_name_when_the_block_ends(tmp_path):
    target = tmp_path / "new folder" / "a.txt"
    with atomic_outputs(target) as (draft,):
        draft.write_text("all of it")
        assert not target.exists()
    assert [(path.name, path.read_text()) for path in target.parent.iterdir()] == [("a.txt", "all of it")]


def write_and_fail(path):
    path.write_text("half of it")
    raise OSError("no space left")


def test_a_failed_block_leaves_no_file(tmp_path):
    with pytest.raises(OSError, match="no space"), atomic_outputs(tmp_path / "a.txt", tmp_path / "b.txt") as (first, _):
        write_and_fail(first)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def zombie():
    """The number of a process that was killed, and that its parent has not waited for."""
    process = subprocess.Popen(["sleep", "60"])
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_a_folder_and_the_files_of_killed_processes_are_replaced(tmp_path, zombie):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/old.html").touch()
    for pid in (zombie, 2**22 + 1):  # the second one is beyond the highest number of a process
        dead = tmp_path / f".partial-{pid}-pages"
        dead.mkdir()
        (dead / "left.html").touch()
    with atomic_outputs(tmp_path / "pages") as (draft,):
        draft.mkdir()
        (draft / "new.html").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["pages", "new.html"]


WRITE = """
import sys
from pathlib import Path
from pipeline.common.files import atomic_outputs
with atomic_outputs(Path("a.txt")) as (draft,):
    draft.write_text("first")
    print("begun", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_do_not_touch_each_others_files(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen([sys.executable, "-c", WRITE], cwd=tmp_path, env=environment, **pipes)
    assert first.stdout.readline() == "begun\n"
    with atomic_outputs(tmp_path / "a.txt") as (draft,):
        draft.write_text("second")
        first.communicate("\n")
        assert (first.returncode, (tmp_path / "a.txt").read_text()) == (0, "first")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "second")]


def test_outputs_are_removed_if_the_stage_fails_afterwards(tmp_path):
    for name in ("a.txt", "kept.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ZeroDivisionError), removed_on_failure(tmp_path / "a.txt"):
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})


def test_a_damaged_json_file_is_reported_with_the_remedy(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(PipelineError, match=r"a.json is damaged: .*Run this"):
        read_json(tmp_path / "a.json", "Run this.")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_csv_file_is_written_and_read(tmp_path):
    write_csv(tmp_path / "t.csv", [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    assert (tmp_path / "t.csv").read_text() == "epoch,loss\n1,0.5\n2,0.25\n"
    assert read_csv(tmp_path / "t.csv") == [{"epoch": "1", "loss": "0.5"}, {"epoch": "2", "loss": "0.25"}]


UNICODE = """
from pathlib import Path
from pipeline.common.files import read_csv, read_json, write_csv, write_json
from pipeline.common.params import read_params
write_csv(Path("t.csv"), [{"name": "caf\\xe9 \\u732b"}])
assert read_csv(Path("t.csv")) == [{"name": "caf\\xe9 \\u732b"}]
Path("t.json").write_bytes(b'{"name": "caf\\xc3\\xa9"}')
assert read_json(Path("t.json"), "") == {"name": "caf\\xe9"} == read_params(Path("t.json"))
"""


def test_files_are_utf8_in_every_locale(tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", UNICODE], cwd=tmp_path, env=locale, check=True)
    assert (tmp_path / "t.csv").read_bytes() == "name\ncafé 猫\n".encode()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_that_is_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, kind):
    """DVC with cache.type symlink; a user who keeps results on another disk."""
    original, target = tmp_path / "original", tmp_path / "target"
    original.mkdir()
    (original / "a.txt").write_text("kept")
    (original / "a.txt").chmod(0o444)
    target.symlink_to(original / "a.txt" if kind == "file" else original)
    with atomic_outputs(target) as (draft,):
        if kind == "folder":
            draft.mkdir()
        (draft if kind == "file" else draft / "a.txt").write_text("new")
    assert not target.is_symlink()
    assert (target if kind == "file" else target / "a.txt").read_text() == "new"
    assert (original / "a.txt").read_text() == "kept"


def test_a_csv_file_without_rows_has_its_header(tmp_path):
    write_csv(tmp_path / "t.csv", [], ["epoch", "loss"])
    assert (tmp_path / "t.csv").read_text() == "epoch,loss\n"
    assert read_csv(tmp_path / "t.csv") == []


FORMULAS = {"=1+1|cmd": "'=1+1|cmd", "+a": "'+a", "-a": "'-a", "@a": "'@a", "'=a": "''=a", "'a": "'a", "-0.5": "-0.5"}


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_in_a_table_is_no_formula_and_is_read_as_it_was(tmp_path, text):
    write_csv(tmp_path / "t.csv", [{"name": text, "number": -0.5}])
    assert (tmp_path / "t.csv").read_text() == f"name,number\n{FORMULAS[text]},-0.5\n"
    assert read_csv(tmp_path / "t.csv") == [{"name": text, "number": "-0.5"}]
