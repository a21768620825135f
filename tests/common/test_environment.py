import json
import os
import subprocess
import sys

import pytest
from hostile_settings import VARIABLES
from projects import ROOT

PROBE = """
import json, os, sys
from pipeline.common.errors import exit_on_error
with exit_on_error("probe"):
    python = [sys.flags.optimize, sys.warnoptions, sys.stdout.encoding.lower(), open(sys.argv[1]).encoding.lower()]
    print(json.dumps({"python": python, "pid": os.getpid(), "arguments": sys.argv[1:], **os.environ}))
"""
STAY = {
    "CUDA_VISIBLE_DEVICES": "",
    "MLFLOW_TRACKING_URI": "http://localhost:1",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_GPU_ALLOCATOR": "cuda_malloc_async",
}
OF_ALL_PROGRAMS = (
    "HOME",
    "PYTHONHASHSEED",
    "LC_ALL",
    "TZ",
    "SOURCE_DATE_EPOCH",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


@pytest.fixture
def probe(tmp_path):
    """Runs a command of the pipeline with these variables; what it finds once it has set the user's settings aside."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/__init__.py").touch()
    (tmp_path / "pipeline/common").symlink_to(ROOT / "pipeline/common")
    (tmp_path / "pipeline/probe.py").write_text(PROBE)

    def run_probe(**variables):
        clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.probe", "pipeline/probe.py", "two words"],
            cwd=tmp_path,
            env=clean | {"LC_ALL": "C.UTF-8"} | variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = json.loads(process.communicate()[0])
        assert found.pop("pid") == process.pid  # DVC waits for this process
        return {name: value for name, value in found.items() if name not in ("PYTHONUTF8", "PYTHONCOERCECLOCALE")}

    return run_probe


@pytest.mark.parametrize("name", [name for name in VARIABLES if name not in OF_ALL_PROGRAMS])
def test_a_variable_that_changes_results_is_ignored(probe, name):
    assert probe(**{name: VARIABLES[name]}) == probe()


def test_all_of_them_at_once_are_ignored_in_a_locale_without_utf8(probe):
    ignored = {name: value for name, value in VARIABLES.items() if name not in OF_ALL_PROGRAMS}
    assert probe(**ignored, LC_ALL="C") == probe() | {"LC_ALL": "C"}


def test_variables_of_speed_devices_and_logs_stay(probe):
    assert probe(**STAY) == probe() | STAY
