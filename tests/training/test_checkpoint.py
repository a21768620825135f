import subprocess
import sys

import numpy as np
import pytest
from projects import ROOT

from pipeline.training.checkpoint import Checkpoint, read_checkpoint, resumable, write_checkpoint

CHECKPOINT = Checkpoint(
    rows=[{"epoch": 1, "loss": 0.1 + 0.2}],
    seconds=1.5,
    state=[np.arange(6.0).reshape(2, 3), np.array(7, np.int64)] + [np.full(1, i, np.float32) for i in range(12)],
    best=[np.ones(3, np.float32)],
)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
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
def test_an_absent_or_damaged_checkpoint_is_ignored(tmp_path, content):
    path = tmp_path / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert read_checkpoint(path) == (None, None)


def name(folder, settings, code=""):
    """Name of the checkpoint of the code in `folder`, computed in another process."""
    program = (
        f"{code}\nfrom pipeline.training.checkpoint import *\n"
        f"print(checkpoint_path(Path('x'), Path('pipeline/train.py').resolve(), {settings!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_its_name_depends_on_settings_and_libraries(project):
    first = name(project, {"seed": 0, "epochs": 2})
    assert first == name(project, {"epochs": 2, "seed": 0})
    assert first != name(project, {"seed": 1, "epochs": 2})
    other = "from importlib import metadata; metadata.version = lambda name: '0'"
    assert name(project, {}) != name(project, {}, other)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("train.py", True),
        ("models/muon.py", True),  # imported inside a function, when training starts
        ("models/__init__.py", True),
        ("training/fit.py", True),
        ("report.py", False),
        ("html/page.py", False),
        ("evaluation/metrics.py", False),
    ],
)
def test_its_name_depends_on_the_code_that_train_imports(project, file, changes):
    before = name(project, {})
    path = project / "pipeline" / file
    path.write_text(path.read_text() + "\n")
    assert (name(project, {}) != before) == changes


def test_its_name_is_the_same_in_another_folder(project):
    """`dvc exp run --temp` works in a copy of the repository."""
    assert name(project, {}) == name(ROOT, {})


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
def test_a_forced_run_ignores_and_removes_the_checkpoint(tmp_path, command, read):
    path = tmp_path / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    (tmp_path / command[0]).write_text(
        "import subprocess, sys\n"
        "code = '''import sys; from pathlib import Path; from pipeline.training.checkpoint import resumable\n"
        "with resumable(Path(sys.argv[1])) as (_, run_id):\n"
        "    print(run_id, flush=True); sys.exit()  # the file of a training that fails stays'''\n"
        f"subprocess.run([sys.executable, '-c', code, {str(path)!r}], check=True)"
    )
    program = [sys.executable, str(tmp_path / command[0]), *command[1:]]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ("run 1\n" if read else "None\n")
    assert path.exists() == read


def test_a_training_with_the_same_settings_waits_for_the_first_to_end(tmp_path):
    path = tmp_path / "folder" / "a.npz"
    code = (
        "import sys; from pathlib import Path; from pipeline.training.checkpoint import resumable\n"
        "with resumable(Path(sys.argv[1])) as (_, run_id): print(run_id)"
    )
    with resumable(path):
        write_checkpoint(path, CHECKPOINT, "run 1")
        second = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert second.stdout.readline() == "train: waiting for a training with the same settings to end\n"
    assert second.communicate()[0] == "None\n"  # the first training has removed its file, because it succeeded
    assert not list(path.parent.iterdir())


def test_the_checkpoint_of_a_failed_training_stays(tmp_path):
    path = tmp_path / "a.npz"
    write_checkpoint(path, CHECKPOINT, "run 1")
    with pytest.raises(KeyboardInterrupt), resumable(path):
        raise KeyboardInterrupt
    assert read_checkpoint(path)[1] == "run 1"
