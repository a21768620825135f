import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from pipeline.checkpoint import Checkpoint, read_checkpoint, resumable, write_checkpoint

CHECKPOINT = Checkpoint(
    rows=[{"epoch": 1, "loss": 0.1 + 0.2}],
    seconds=1.5,
    state=[np.arange(6.0).reshape(2, 3), np.array(7, np.int64)] + [np.full(1, i, np.float32) for i in range(12)],
    best=[np.ones(3, np.float32)],
)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "folder" / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    read, run_id = read_checkpoint(path)
    assert (run_id, read.rows, read.seconds) == ("run 1", CHECKPOINT.rows, 1.5)
    for kind in ("state", "best"):
        arrays, expected = getattr(read, kind), getattr(CHECKPOINT, kind)
        assert [array.dtype for array in arrays] == [array.dtype for array in expected]
        assert all(map(np.array_equal, arrays, expected))
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("content", [None, b"", b"no zip", "half"])
def test_one_that_is_absent_or_damaged_is_as_good_as_none(tmp_path, content):
    path = tmp_path / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert read_checkpoint(path) == (None, None)


def name(folder, settings, code=""):
    """The checkpoint's name in a process of its own, in `folder`'s code."""
    program = f"{code}\nfrom pipeline.checkpoint import *; print(checkpoint_path(Path('x'), {settings!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_its_name_follows_settings_code_and_libraries(project):
    first = name(project, {"seed": 0, "epochs": 2})
    assert first == name(project, {"epochs": 2, "seed": 0})
    assert first != name(project, {"seed": 1, "epochs": 2})
    used = project / "pipeline/muon.py"  # which is imported only as training begins
    used.write_text(used.read_text() + "\n")
    assert first != name(project, {"seed": 0, "epochs": 2})
    other = "from importlib import metadata; metadata.version = lambda name: '0'"
    assert name(project, {}) != name(project, {}, other)


@pytest.mark.parametrize(
    ("command", "read"),
    [
        (["dvc", "repro"], True),
        (["dvc", "repro", "--force", "train"], False),
        (["dvc", "repro", "-fs", "train"], False),
        (["dvc", "repro", "--single-item", "fast"], True),
        (["dvc", "exp", "run", "-f"], False),
        (["other", "--force"], True),
        (["make", "-f", "dvc.mk"], True),
    ],
)
def test_a_forced_run_ignores_and_removes_it(tmp_path, command, read):
    path = tmp_path / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    (tmp_path / command[0]).write_text(
        "import subprocess, sys\n"
        "code = 'import sys; from pathlib import Path; from pipeline.checkpoint import read_checkpoint;'"
        "'print(read_checkpoint(Path(sys.argv[1]))[1])'\n"
        f"subprocess.run([sys.executable, '-c', code, {str(path)!r}], check=True)"
    )
    program = [sys.executable, str(tmp_path / command[0]), *command[1:]]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ("run 1\n" if read else "None\n")
    assert path.exists() == read


def test_a_training_with_the_same_settings_waits_for_the_first_to_end(tmp_path):
    path = tmp_path / "folder" / "a.npz"
    code = (
        "import sys; from pathlib import Path; from pipeline.checkpoint import resumable\n"
        "with resumable(Path(sys.argv[1])) as (_, run_id): print(run_id)"
    )
    with resumable(path):
        write_checkpoint(path, CHECKPOINT, "run 1")
        second = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert second.stdout.readline() == "train: waits until a training with the same settings ends\n"
    assert second.communicate()[0] == "None\n"  # the first's file is gone: it ended well
    assert not list(path.parent.iterdir())


def test_it_is_kept_where_a_training_fails(tmp_path):
    path = tmp_path / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    with pytest.raises(KeyboardInterrupt), resumable(path):
        raise KeyboardInterrupt
    assert read_checkpoint(path)[1] == "run 1"
