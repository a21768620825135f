"""What is installed and what CI runs: fixed commits, hashes in all lock files, and the targets that use them."""

import os
import re
import subprocess

import pytest
from projects import ROOT

ACTIONS = [
    line.strip(" -")
    for path in (ROOT / ".github").rglob("*.y*ml")
    for line in path.read_text().splitlines()
    if "uses:" in line
]
LOCKS = ("requirements.lock", "deploy/requirements.lock", "requirements-gpu.lock")


def requirements(name):
    """Each requirement of a lock file, with its hashes, on one line."""
    return (ROOT / name).read_text().replace("\\\n", " ").splitlines()


def make(*arguments):
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--old-file=.venv/installed", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_there_are_actions():
    assert len(ACTIONS) >= 3


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_of_ci_is_pinned_by_commit_and_names_its_version(action):
    assert re.fullmatch(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("lock", LOCKS)
def test_each_requirement_has_a_version_and_hashes_and_no_address(lock):
    lines = requirements(lock)
    assert len(lines) > 10
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; [^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", line), line[:200]


def test_the_lock_for_a_gpu_has_only_what_cuda_adds():
    packages = requirements("requirements-gpu.lock")
    assert all(line.startswith("nvidia-") and "sys_platform == 'linux'" in line for line in packages)
    assert [line for line in packages if line.startswith("nvidia-cudnn-")]


def test_setup_installs_nothing_without_hashes():
    printed = make("--dry-run", "--always-make", "setup", "EXTRAS=gpu").stdout.replace("\\\n", " ")
    installs = [line for line in printed.splitlines() if "pip install" in line]
    assert [re.search(r"--requirement (\S+)", line)[1] for line in installs] == ["requirements-gpu.lock"]
    assert all("--require-hashes" in line for line in installs)
    makefile = re.sub(r"\\\n\s*", "", (ROOT / "Makefile").read_text())
    setup = makefile[makefile.index("\nsetup:") : makefile.index("\ndemo:")]
    assert setup.count("-m pip install ") == setup.count("--require-hashes") == 1 + len(installs)


def test_setup_refuses_other_extras():
    done = make("setup", "EXTRAS=gnu")
    assert done.returncode != 0
    assert "setup: EXTRAS=gnu is unknown: EXTRAS=gpu adds CUDA" in done.stderr


def test_the_container_has_the_versions_of_the_other_packages():
    everything, container = (
        {line.split(" ")[0] for line in requirements(lock)}
        for lock in ("requirements.lock", "deploy/requirements.lock")
    )
    assert container < everything


def test_make_lock_writes_all_files_and_make_audit_reads_those_that_contain_the_others():
    written = make("--dry-run", "lock").stdout
    assert re.findall(r"--output-file (\S+)", written) == list(LOCKS)
    assert written.count("--generate-hashes") == written.count("--no-emit-index-url") == len(LOCKS)
    read = make("--dry-run", "audit").stdout
    assert re.findall(r"pip-audit .*--requirement (\S+)", read) == [LOCKS[0], LOCKS[2]]
    assert read.count("pip-audit --strict") == 2  # else a package that could not be looked up is only a warning
    assert "pip-licenses --python .venv/bin/python" in read
