"""What is known about this machine's processor and memory."""

import platform
from pathlib import Path

import psutil


def processor_facts() -> str:
    """Linux's description of the processor, with its instruction sets; empty on other systems."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def machine() -> str:
    """Cores, processor, memory and Python version as one line of text."""
    names = [line.split(":")[1].strip() for line in processor_facts().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {processor}, {gigabytes:.0f} GiB, Python {platform.python_version()}"
