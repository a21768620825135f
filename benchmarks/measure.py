"""The time and the memory of a command, measured on the whole process."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, TextIO

import psutil

from pipeline.common.errors import PipelineError

USER_SETTINGS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT")  # a benchmark must not use their store


class Measured(NamedTuple):
    """Wall seconds, peak resident memory in MB of the process with its children, and the output."""

    seconds: float
    megabytes: float
    output: str


def measure(command: list[str] | str, folder: Path) -> Measured:
    """Run `command` in `folder`; a string runs in the shell.

    Raises:
        PipelineError: the command failed; the message contains its output.
    """
    environment = {name: value for name, value in os.environ.items() if name not in USER_SETTINGS}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines: list[str] = []
    with tempfile.NamedTemporaryFile("w+") as output, open(output.name) as reader:
        start, peak = time.perf_counter(), 0
        process = psutil.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            shell=isinstance(command, str),
        )
        while process.poll() is None:
            peak = max(peak, _resident_bytes(process))
            lines += _new_lines(reader)
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        lines += _new_lines(reader)
    if process.returncode:
        raise PipelineError(f"`{command}` failed:\n{''.join(lines)}")
    return Measured(seconds, peak / 1e6, "".join(lines))


def _new_lines(output: TextIO) -> list[str]:
    """The new lines of the output; prints those that report an epoch, because a training can take an hour."""
    lines = output.readlines()
    print(*(f"  {line}" for line in lines if line.startswith("epoch ")), sep="", end="", flush=True)
    return lines


def _resident_bytes(process: psutil.Process) -> int:
    """Resident memory of the process and its children now."""
    try:
        return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:  # a child ended in the meantime
        return 0
