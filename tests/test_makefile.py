"""The Makefile in the environment of a user who has variables of his own."""

import fcntl
import shutil
import subprocess
import sys

import psutil
import pytest
from projects import ROOT

PATH = "/usr/local/bin:/usr/bin:/bin"


def make(folder, *arguments, **environment):
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": PATH} | environment, capture_output=True, text=True)


OPTIONS = {
    "N": ("seeds", "7"),
    "PORT": ("ui", "5050"),
    "VERSION": ("rollback", "7"),
    "ALLOW": ("export", "1"),
    "EXTRAS": ("setup", "gpu"),
    "ARCHIVE": ("bench", "a"),
    "NAME": ("bench", "a"),
    "SECTION": ("bench", "a"),
    "SEEDS": ("bench", "7"),
    "NETWORKS": ("bench", "a"),
    "FOLDER": ("pack", "a"),
    "SIDE": ("pack", "16"),
    "OUT": ("pack", "a"),
    "WRITE": ("pack", "1"),
    "SKIP": ("pack", "1"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_counts_on_the_command_line_only(option):
    target, value = OPTIONS[option]
    shown = ["--dry-run", "--old-file=.venv/installed", target]
    plain, from_environment = make(ROOT, *shown), make(ROOT, *shown, **{option: value})
    assert plain.returncode == 0, plain.stderr
    assert from_environment.stdout == plain.stdout
    assert make(ROOT, *shown, f"{option}={value}").stdout != plain.stdout


@pytest.fixture
def fresh(tmp_path):
    """A folder in which `make setup` would install the packages; its environment is there and empty."""
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / ".venv"], check=True)
    return tmp_path


@pytest.mark.parametrize("name", ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_DRY_RUN"])
def test_setup_refuses_settings_of_pip_that_install_elsewhere(fresh, name):
    done = make(fresh, "setup", f"PYTHON={sys.executable}", **{name: "1"})
    assert done.returncode != 0
    assert f":env:.{name[4:].lower().replace('_', '-')}='1'\nsetup: these settings of pip" in done.stderr
    assert not (fresh / ".venv/installed").exists()


def test_setup_refuses_such_a_setting_in_a_configuration_file(fresh):
    (fresh / "pip.conf").write_text("[install]\ntarget = elsewhere\n")
    done = make(fresh, "setup", f"PYTHON={sys.executable}", PIP_CONFIG_FILE="pip.conf")
    assert done.returncode != 0
    assert "install.target='elsewhere'" in done.stderr


def test_setup_installs_into_the_environment_although_pip_would_install_for_the_user(fresh):
    (fresh / "requirements.lock").write_text("./empty.zip --hash=sha256:" + "0" * 64 + "\n")
    done = make(fresh, "setup", f"PYTHON={sys.executable}", PIP_USER="1")
    assert "empty.zip" in done.stderr  # it came as far as this file, which does not exist
    assert "--user" not in done.stderr


def waits_for(process, name):
    """Whether a process or a child of it has opened the file of a lock."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return any(file.path.endswith(name) for each in family for file in each.open_files())
    except psutil.NoSuchProcess:  # a child that has just ended
        return False


def test_two_setups_at_once_install_once(fresh):
    (fresh / ".dvc/tmp").mkdir(parents=True)
    with (fresh / ".dvc/tmp/setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command = ["make", "setup", f"PYTHON={sys.executable}"]
        second = subprocess.Popen(command, cwd=fresh, env={"PATH": PATH}, **pipes)
        while not waits_for(second, "setup.lock"):
            assert second.poll() is None
        (fresh / ".venv/installed").touch()  # the first one has finished
    assert (second.communicate()[0], second.returncode) == ("", 0)


@pytest.mark.parametrize("python", ["no-such-python", "false", ""])
def test_setup_refuses_a_python_that_does_not_fit(tmp_path, python):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    done = make(tmp_path, "setup", f"PYTHON={python}")
    assert done.returncode != 0
    assert f"setup: PYTHON is '{python}', but it should be Python 3.11, 3.12 or 3.13." in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_targets_run_although_the_environment_would_stop_python():
    stopping = {"PYTHONHOME": "/nowhere", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2"}
    done = make(ROOT, "--old-file=.venv/installed", "seeds", "N=x", **stopping)
    assert done.stderr.startswith("seeds: N is 'x'")
