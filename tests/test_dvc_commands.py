"""DVC's own commands before and after `make evidence`, and locks of a killed DVC. The stages only write their outputs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from dvc.lock import make_lock
from projects import ENVIRONMENT, ROOT, as_clone, make, make_project, run

STUB = """
import os, sys, time
from pathlib import Path

COLUMNS = "epoch,loss,accuracy,validation_loss,validation_accuracy,actual,predicted,confidence,%s"
CONTENT = {".json": '{"%s": 1}', ".csv": COLUMNS + "\\n1,1,1,1,1,1,1,1,1\\n"}
if stop := os.environ.get("STOP_IN"):
    if f"{stop}=" in " ".join(sys.argv):
        print("stopped", flush=True)
        time.sleep(60)
for path in (Path(word.split("=")[1]) for word in sys.argv[2:]):
    files = [path] if path.suffix else [path / f"{name}.png" for name in ("confusion_matrix", "reliability", "mistakes")]
    for file in files:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(CONTENT.get(file.suffix, "%s") % file.stem)
"""
HEADLINES = {"train", "evaluate"}
EVIDENCE_HEADLINES = {"near_duplicates", "robustness"}


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def dvc(folder, *arguments):
    """Run a DVC command, which must succeed; what it printed."""
    done = run(folder, "dvc", *arguments)
    assert done.returncode == 0, f"dvc {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def as_stubs(dvc_yaml):
    """The same stages with the same paths, but their commands only write their outputs."""
    dvc_yaml.write_text(dvc_yaml.read_text().replace("python -m pipeline.", "python stub.py "))


@pytest.fixture(scope="module")
def clone(tmp_path_factory, archive):
    """A git repository with a remote, in which the default stages ran and their lock file is committed."""
    folder = make_project(tmp_path_factory.mktemp("commands") / "a project", archive)
    (folder / "stub.py").write_text(STUB)
    as_stubs(folder / "dvc.yaml")
    as_stubs(folder / "evidence/dvc.yaml")
    as_clone(folder)
    dvc(folder, "remote", "add", "--default", "remote", str(folder.parent / "remote"))
    dvc(folder, "repro")
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", "results")
    dvc(folder, "push")
    return folder


@pytest.fixture
def copy(clone, tmp_path):
    shutil.copytree(clone, tmp_path / "a project", symlinks=True)
    return tmp_path / "a project"


def assert_commands_work(folder, name, columns):
    """Every command succeeds; `dvc metrics show` and `dvc plots show` show what exists, without a warning."""
    dvc(folder, "checkout")
    shown = dvc(folder, "metrics", "show", "--json")
    assert {key for each in json.loads(shown)[""]["data"].values() for key in each["data"]} == columns
    plots = json.loads(dvc(folder, "plots", "show", "--json"))
    assert "errors" not in plots
    assert ("reports/plots/slices.png" in plots["data"]) == (columns >= EVIDENCE_HEADLINES)
    assert {"Learning curves", "reports/plots/curves.csv", "reports/plots/contact_sheet.png"} <= plots["data"].keys()
    dvc(folder, "exp", "save", "--name", name)
    dvc(folder, "exp", "apply", name)
    dvc(folder, "push")
    dvc(folder, "pull")


def test_every_command_works_without_and_with_evidence(copy):
    assert_commands_work(copy, "without", HEADLINES)
    done = make(copy, "evidence")
    assert done.returncode == 0, done.stdout + done.stderr
    made = sorted((copy / "reports").rglob("*.*"))
    assert copy / "reports/report.html" in made
    assert_commands_work(copy, "with", HEADLINES | EVIDENCE_HEADLINES)
    assert sorted((copy / "reports").rglob("*.*")) == made  # `dvc checkout` has deleted none
    again = make(copy, "evidence")
    assert again.returncode == 0
    assert "Running stage" not in again.stdout
    (copy / "reports/slices.csv").unlink()
    assert_commands_work(copy, "partly", HEADLINES | EVIDENCE_HEADLINES)
    assert "Running stage" in make(copy, "evidence").stdout
    assert (copy / "reports/slices.csv").exists()


def test_a_fresh_clone_pulls_and_applies(clone, tmp_path):
    git(tmp_path, "clone", "-q", str(clone), "fresh")
    fresh = tmp_path / "fresh"
    dvc(fresh, "pull")
    assert_commands_work(fresh, "fresh", HEADLINES)


def test_dvc_repro_does_not_read_evidence_and_says_so(copy):
    assert "evidence" not in dvc(copy, "repro")
    done = run(copy, "dvc", "repro", "evidence/dvc.yaml")
    assert done.returncode != 0
    assert "dvc-ignored" in done.stderr


def killed_in_train(folder):
    """Kill a `dvc repro` with all its processes while train runs; its lock file."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "train"],
        cwd=folder,
        env=ENVIRONMENT | {"STOP_IN": "timing"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.stdout.readline() != "stopped\n":
        assert process.poll() is None
    return process, folder / ".dvc/tmp/rwlock"


def end(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_lock_of_a_killed_dvc_whose_number_another_process_has_is_removed(copy):
    process, lock = killed_in_train(copy)
    end(process)
    other = subprocess.Popen(["sleep", "60"])
    lock.write_text(lock.read_text().replace(f'"pid": {process.pid},', f'"pid": {other.pid},'))
    assert run(copy, "dvc", "repro").returncode != 0  # DVC believes the lock
    done = make(copy, "repro")
    other.kill()
    other.wait()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recover: removed the locks of a DVC that was killed" in done.stdout
    assert (copy / "models/model.keras").exists()


def test_a_lock_of_a_living_dvc_is_respected(copy):
    process, lock = killed_in_train(copy)
    content = json.loads(lock.read_text())
    content["write"]["/elsewhere"] = {"pid": 2**22 + 1, "cmd": "dvc repro"}  # beyond the highest number of a process
    lock.write_text(json.dumps(content))
    done = make(copy, "repro")
    kept = json.loads(lock.read_text())
    end(process)
    assert done.returncode != 0
    assert f"recover: another DVC is at work in {copy} (process {process.pid})" in done.stderr
    del content["write"]["/elsewhere"]
    assert kept == content


def test_a_lock_file_that_a_killed_dvc_wrote_in_part_is_removed(copy):
    lock = copy / ".dvc/tmp/rwlock"
    lock.write_text('{"write": {"/a pro')
    assert run(copy, "pipeline.recover").returncode == 0
    assert not lock.exists()
    lock.write_text('{"write": {"/a": {"pid": "many"}}, "read": [1]}')
    assert run(copy, "pipeline.recover").returncode == 0
    assert not lock.exists()


@pytest.mark.parametrize("name", ["dvc.lock", "evidence/dvc.lock"])
@pytest.mark.parametrize("content", ["", "schema: '2.0'\n", "schema: '2.0'\nstages:\n  download:\n    cmd: 'py"])
def test_a_lock_file_of_stages_that_was_written_in_part_is_moved_aside(copy, name, content):
    (copy / name).write_text(content)
    done = make(copy, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"recover: {name} was written in part by a DVC that was killed; it was moved to dvc.lock.inc" in done.stdout
    assert (copy / f"{name}.incomplete").read_text() == content
    # All results come from the cache; DVC keeps none of download, whose output is `persist: true`.
    assert set(re.findall(r"python stub.py (\w+)", done.stdout)) <= {"download"}


TOKEN = ".cZG4XLG09F1CE__XrnGR3w.tmp"  # the end of DVC's temporary names
LEFT = (f"data/splits/{TOKEN}", f"models/model.keras{TOKEN}", f"reports/plots/test/{TOKEN}")
OWN = ("data/splits/notes.tmp", f"data/pictures/cat/{TOKEN}", f"models/{TOKEN}.keras")


def test_incomplete_copies_of_a_killed_dvc_are_removed_and_nothing_else(copy):
    for name in (*LEFT, *OWN):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("half")
    shutil.rmtree(copy / ".dvc/tmp")  # as in a copy without DVC's own files
    done = make(copy, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in (*LEFT, *OWN) if (copy / name).exists()] == list(OWN)
    assert all(f"recover: removed {name}, a copy that a killed DVC did not finish" in done.stdout for name in LEFT)


def test_copies_of_a_living_dvc_are_not_removed(copy):
    (copy / LEFT[0]).write_text("half")
    with make_lock(str(copy / ".dvc/tmp/lock"), tmp_dir=str(copy / ".dvc/tmp")):  # as `dvc pull` does
        assert run(copy, "pipeline.recover").returncode == 0
    assert (copy / LEFT[0]).exists()
    assert run(copy, "pipeline.recover").returncode == 0
    assert not (copy / LEFT[0]).exists()


@pytest.mark.parametrize("content", ["stages: [", "stages: [train]", "stages:\n  train: {outs: 1}", b"\xff"])
def test_recover_leaves_a_mistake_in_dvc_yaml_to_dvc(copy, content):
    (copy / "dvc.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = run(copy, "pipeline.recover")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(copy, "dvc", "repro").returncode != 0


def test_the_lock_of_a_program_that_uses_dvc_is_respected(tmp_path):
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "mine.py"])
    lock = tmp_path / ".dvc/tmp/rwlock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"write": {"/a": {"pid": program.pid, "cmd": "/home/user/mine.py --all"}}, "read": {}}))
    done = run(ROOT, "pipeline.recover", tmp_path)
    program.kill()
    program.wait()
    assert done.returncode == 1
    assert f"(process {program.pid})" in done.stderr


def test_recover_in_a_folder_without_locks_does_nothing(tmp_path):
    done = run(ROOT, "pipeline.recover", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
