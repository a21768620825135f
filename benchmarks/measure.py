"""A command as a whole process: how long it takes and how much memory it holds."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, TextIO

import psutil

from pipeline.errors import PipelineError


class Measured(NamedTuple):
    """Wall seconds, peak resident memory in MB of the process and its children together, and what it printed."""

    seconds: float
    megabytes: float
    output: str


def measure(command: list[str] | str, folder: Path) -> Measured:
    """Run `command` in `folder`; a text goes through the shell.

    Raises:
        PipelineError: it failed; the message holds what it printed.
    """
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": python}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT"):  # the user's store is not for this
        environment.pop(name, None)
    lines: list[str] = []
    with tempfile.NamedTemporaryFile("w+") as printed, open(printed.name) as reader:
        start, peak = time.perf_counter(), 0
        process = psutil.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
            shell=isinstance(command, str),
        )
        while process.poll() is None:
            peak = max(peak, _resident(process))
            lines += _shown(reader)
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        lines += _shown(reader)
    if process.returncode:
        raise PipelineError(f"`{command}` failed:\n{''.join(lines)}")
    return Measured(seconds, peak / 1e6, "".join(lines))


def _shown(printed: TextIO) -> list[str]:
    """The lines that were printed since; those that tell of an epoch are shown, since a training can take an hour."""
    lines = printed.readlines()
    print(*(f"  {line}" for line in lines if line.startswith("epoch ")), sep="", end="", flush=True)
    return lines


def _resident(process: psutil.Process) -> int:
    """Bytes of memory that the process and its children hold now."""
    try:
        return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:  # one ended while we looked
        return 0
