"""deploy/: what the container contains, installed and started as plain processes, because Docker needs a daemon."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with the packages of the container only."""
    folder = tmp_path_factory.mktemp("container")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    command = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement"]
    done = subprocess.run([*command, ROOT / "deploy/requirements.lock"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install the packages of the container: {done.stderr.strip()[-300:]}")
    return folder / "bin/python"


def test_the_server_needs_only_the_packages_of_the_container(python, bundle, tmp_path):
    """The files that the Dockerfile copies, in a folder of their own."""
    for source, target in re.findall(r"^COPY (pipeline) (\S+)$", DOCKERFILE, re.MULTILINE):
        shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys; from pathlib import Path; from pipeline import serve; import uvicorn; "
        "uvicorn.run = lambda app, **options: print(sorted(route.path for route in app.routes)); "
        "serve.serve(Path(sys.argv[1]), '127.0.0.1', 1)"
    )
    done = subprocess.run([python, "-c", code, bundle], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "['/classify', '/health', '/invocations', '/metrics', '/ping', '/ready']" in done.stdout


def test_the_container_starts_the_server_without_root():
    instructions = [line.split(" ", 1) for line in DOCKERFILE.splitlines() if line and line[0] not in "#\t"]
    users = [value for name, value in instructions if name == "USER"]
    assert users == ["10001"]
    assert instructions[-1] == ["CMD", '["python", "-m", "pipeline.serve", "/bundle", "--host", "0.0.0.0"]']
    assert "--require-hashes" in DOCKERFILE


def test_the_build_context_has_what_is_copied_and_nothing_else():
    kept = [line[1:] for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    copied = [source for source in re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE) if "$" not in source]
    assert [*copied, "dist"] == kept
    assert all(Path(ROOT / source).exists() for source in copied)
