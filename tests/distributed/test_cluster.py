"""Each test starts Ray in a process of its own: its variables are read once."""

import subprocess
import sys

import pytest
from projects import ENVIRONMENT, ROOT

START = """
import os, sys
from pipeline.common.errors import exit_on_error
from pipeline.distributed.cluster import connected
address, cpus = sys.argv[1] or None, int(sys.argv[2])
with exit_on_error("tune"), connected(address, cpus, 0):
    import ipaddress, psutil, ray, subprocess
    me = psutil.Process()
    listening = [
        connection.laddr.ip
        for process in [me, *me.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3
    print("addresses", {str(ipaddress.ip_address(ip.removeprefix("::ffff:"))) for ip in listening})
    other = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"} | {"HOME": "/nowhere"}
    script = f"import ray; ray.init('{ray.get_runtime_context().gcs_address}'); print('inside')"
    refused = subprocess.run([sys.executable, "-c", script], env=other, capture_output=True, text=True)
    print("stranger", "inside" in refused.stdout, "oken" in refused.stderr)
"""


def start(address, cpus):
    command = [sys.executable, "-c", START, address, str(cpus)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def test_on_one_machine_it_listens_on_loopback_alone_and_asks_for_a_token():
    finished = start("", 1)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["addresses {'127.0.0.1'}", "stranger False True"]


@pytest.mark.parametrize(
    ("address", "cpus", "message"),
    [
        ("", 9_999, "tune: 9999 CPUs and 0 GPUs are needed on one machine, but none has more than"),
        ("127.0.0.1:9", 1, "tune: cannot connect to Ray at 127.0.0.1:9: "),
        ("somewhere", 1, "tune: cannot connect to Ray at somewhere: it is not HOST:PORT. Expected is"),
        ("ray://127.0.0.1:9", 1, "tune: cannot connect to Ray at ray://127.0.0.1:9: it is not HOST:PORT"),
    ],
)
def test_what_cannot_work_ends_at_once_with_one_message(address, cpus, message):
    finished = start(address, cpus)
    assert finished.returncode == 1
    assert finished.stderr.startswith(message)
    assert "Traceback" not in finished.stderr
