"""The processes that read pictures, when the one that started them is interrupted or killed."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from picture_folders import write_noise
from projects import ROOT

WORKERS = len(os.sched_getaffinity(0))


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def packing(tmp_path):
    """`make pack` in a folder of its own, when its processes have started and none has read a picture."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_noise(tmp_path / "pictures", {"cat": 2 * WORKERS * 32, "dog": 3})
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.pack", "pictures", "16", "a.tar.gz"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    children = psutil.Process(process.pid).children
    wait_until(lambda: len(children(recursive=True)) >= 2 + WORKERS)  # also the fork server and the resource tracker
    process.started = children(recursive=True)
    yield process
    for each in filter(is_alive, process.started):
        each.kill()


def test_interrupted_it_says_one_sentence_and_leaves_nothing(packing, tmp_path):
    os.killpg(packing.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    _, error = packing.communicate(timeout=60)
    assert error == "\npack: interrupted; no partial files remain. Run the same command to continue.\n"
    assert packing.returncode == 130
    wait_until(lambda: not any(map(is_alive, packing.started)))
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "pictures"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_it_leaves_no_process(packing, tmp_path, number):
    packing.send_signal(number)
    packing.communicate(timeout=60)
    wait_until(lambda: not any(map(is_alive, packing.started)))
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "pictures"}
