import json
import sys

import pytest

from benchmarks.measure import machine, measure
from pipeline.errors import PipelineError


def test_a_command_is_measured_with_its_children(tmp_path):
    child = "import time; data = bytearray(300_000_000); time.sleep(0.5); print('hello')"
    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    measured = measure(command, tmp_path)
    assert measured.output == "hello\n"
    assert measured.seconds > 0.5
    assert 300 < measured.megabytes < 600


def test_a_command_that_fails_is_told(tmp_path):
    with pytest.raises(PipelineError, match=r"(?s)failed:.*no such thing"):
        measure("echo no such thing; exit 3", tmp_path)


def test_the_machine_is_named():
    assert " cores, " in machine()


def test_the_textbook_script_runs_on_any_archive(archive, tmp_path):
    from conftest import ROOT

    printed = measure([sys.executable, "-m", "benchmarks.brief", str(archive), "1"], ROOT).output
    assert json.loads(printed.splitlines()[-1]).keys() == {"seconds", "images_per_second", "accuracy"}
