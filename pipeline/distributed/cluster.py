"""Ray: a cluster of one machine, on loopback alone, or the cluster at an address."""

import logging
import os
import re
import secrets
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipeline.common.errors import PipelineError, printable

ON_LOOPBACK = {
    # Ray (2.60) replaces 127.0.0.1 by the machine's public address, except on systems where it forms no clusters:
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",  # other users of this machine reach loopback too
}
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the project logs to MLflow
    "TUNE_GLOBAL_CHECKPOINT_S": "0",  # a search is saved at every event, so a killed one loses nothing
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
VARIABLES = {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "60"}  # of trials: until a stopped one has ended and its process is free
PACKAGE = str(Path(__file__).parents[1])  # the folder pipeline/
PATIENCE = 10.0  # seconds for a connection
OBJECT_STORE = 100_000_000  # bytes of memory; trials exchange next to nothing


@contextmanager
def connected(address: str | None, cpus: int, gpus: int) -> Iterator[None]:
    """Start Ray on this machine, or connect to the cluster at `address`; disconnect or stop it after the block.

    Args:
        cpus, gpus: that one process needs.

    Raises:
        PipelineError: there is no cluster, or none of its machines has so many CPUs and GPUs.
    """
    os.environ.update(SETTINGS | VARIABLES)
    if address:
        _require_answer(address)
    else:
        os.environ.update(ON_LOOPBACK | {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    import ray

    start = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    try:
        if address:  # its machines get the code from here
            start(address, runtime_env={"py_modules": [PACKAGE], "env_vars": VARIABLES})
        else:  # Ray (2.60) starts the processes of trials through a shell
            here = {"py_executable": shlex.quote(sys.executable)}
            start("local", include_dashboard=False, object_store_memory=OBJECT_STORE, runtime_env=here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address or "this machine", str(error).strip().splitlines()[0]) from None
    try:
        _require_room(cpus, gpus)
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise `PipelineError` if nothing listens there: Ray would try again for minutes."""
    found = re.fullmatch(r"\[?([^/]+?)\]?:(\d+)", address)
    if not found:
        raise _no_cluster(address, "it is not HOST:PORT")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


def _no_cluster(address: str, reason: str) -> PipelineError:
    return PipelineError(
        f"cannot connect to Ray at {printable(address)}: {reason}. Expected is the address of a cluster, such as HOST:6379 "
        "on one of its machines; without ADDRESS and RAY_ADDRESS Ray starts on this machine."
    )


def _require_room(cpus: int, gpus: int) -> None:
    """Raise `PipelineError` if a process would wait forever."""
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(machine.get("CPU", 0) >= cpus and machine.get("GPU", 0) >= gpus for machine in machines):
        most = [max(int(machine.get(kind, 0)) for machine in machines) for kind in ("CPU", "GPU")]
        raise PipelineError(
            f"{cpus} CPUs and {gpus} GPUs are needed on one machine, but none has more than {most[0]} CPUs and {most[1]} "
            "GPUs. A training needs tune.cpus and tune.gpus of params.yaml; `make score` needs 1 CPU."
        )
