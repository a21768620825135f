"""Machines of a cluster as network namespaces on this one: Linux, root."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from projects import ENVIRONMENT

HEAD = "10.99.0.1"
ADDRESS = f"{HEAD}:6379"
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789" * 4}


@cache
def why_not():
    """Why there can be no namespaces here; empty if there can be."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        return "network namespaces need Linux, root and the program ip"
    name = f"probe-{os.getpid()}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if probe.returncode == 0 else f"`ip netns add` fails: {probe.stderr.strip()}"


class Cluster:
    """Ray on a head without CPUs and on workers with one CPU each; no address is reachable from outside."""

    def __init__(self, workers, folder):
        self.names = [f"ray-{os.getpid()}-{number}" for number in range(workers + 1)]
        self.folder = folder

    def start(self):
        environment = self.folder / "environment"  # Ray starts no process of an interpreter in a path with spaces
        environment.symlink_to(sys.prefix)
        ray = [environment / "bin/python", "-m", "ray.scripts.scripts", "start", "--disable-usage-stats"]
        head, *workers = self.names
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", head, "addr", "add", f"{HEAD}/32", "dev", "lo")
        subprocess.run(["ip", "netns", "exec", head, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        for number, worker in enumerate(workers, 2):
            ip("link", "add", "uplink", "netns", worker, "type", "veth", "peer", "name", f"w{number}", "netns", head)
            ip("-n", worker, "addr", "add", f"10.99.0.{number}/32", "dev", "uplink")
            ip("-n", worker, "link", "set", "uplink", "up")
            ip("-n", head, "link", "set", f"w{number}", "up")
            ip("-n", worker, "route", "add", "default", "dev", "uplink")
            ip("-n", head, "route", "add", f"10.99.0.{number}", "dev", f"w{number}")
        common = ["--num-gpus=0", "--object-store-memory=80000000"]
        self.run(
            head,
            *ray,
            "--head",
            f"--node-ip-address={HEAD}",
            "--port=6379",
            "--num-cpus=0",
            "--include-dashboard=false",
            f"--temp-dir={self.folder}",
            *common,
        )
        for number, worker in enumerate(workers, 2):
            self.run(
                worker, *ray, f"--address={HEAD}:6379", f"--node-ip-address=10.99.0.{number}", "--num-cpus=1", *common
            )

    def run(self, name, *command):
        """Run a command on a machine to its end."""
        finished = subprocess.run(
            ["ip", "netns", "exec", name, *command],
            env=ENVIRONMENT | TOKEN | {"RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr

    def driver(self, *command, cwd):
        """Start a command on the head, in a process group of its own; it finds the cluster at `ADDRESS`."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[0], *command],
            cwd=cwd,
            env=ENVIRONMENT | TOKEN | {"RAY_ADDRESS": ADDRESS},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def epochs_printed(self):
        """The lines of epochs that the processes of all machines have printed."""
        logs = [log.read_text() for log in self.folder.glob("session_2*/logs/worker-*.out")]
        return [line for log in logs for line in log.splitlines() if line.startswith("epoch ")]

    def kill(self, name):
        """Kill all processes of a machine at once, as when its power fails."""
        assert pids(name)
        for pid in pids(name):
            os.kill(pid, signal.SIGKILL)

    def remove(self):
        for name in self.names:
            deadline = time.monotonic() + 10
            while (found := pids(name)) and time.monotonic() < deadline:
                for pid in found:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def pids(name):
    """The processes on a machine, except those that have ended in the meantime."""
    found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found if os.path.exists(f"/proc/{pid}")]


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def wait_until(condition, driver):
    """Wait until the condition holds, which must be before the driver ends."""
    deadline = time.monotonic() + 300
    while not condition():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def cluster(workers):
    """A running cluster, removed with its namespaces after the block."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        machines = Cluster(workers, Path(folder))
        try:
            machines.start()
            yield machines
        finally:
            machines.remove()
