"""`make ui`: MLflow's pages, opened at the runs of this project: python -m pipeline.ui PORT"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from typing import TYPE_CHECKING

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.tracking.address import displayed_uri, sqlite_file, tracking_uri
from pipeline.tracking.store import DEFAULT_EXPERIMENT, connect
from pipeline.tracking.store_errors import explain_store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST = "127.0.0.1"
OTHER_PORT = "`make ui PORT=5050`."
DEMO_EXPERIMENT = "demo"  # of `make demo`
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTICE = "[MLflow] Security middleware enabled"  # MLflow prints it at every start, at any log level
QUIET = {
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for GenAI evaluation
    "PYTHONWARNINGS": "ignore",
}


def ui(port: str) -> None:
    """Serve the MLflow store until Ctrl-C, and print the address of its runs; only print it if the store is a server.

    Raises:
        PipelineError: `port` is not a free port, there is no store yet, or the server failed.
    """
    if tracking_uri().startswith("http"):
        server = displayed_uri().replace("***@", "").rstrip("/")
        print(f"ui: {runs_page(server, experiment_id(connect()))}")
        return
    require_free(port)
    if (file := sqlite_file()) and not file.exists():
        raise PipelineError(f"there is no MLflow store {file} yet. Run `make demo` or `make repro`, then `make ui`.")
    page = runs_page(f"http://{HOST}:{port}", experiment_id(connect()))
    with mlflow_server(port) as process:
        while not answers(port) and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is None:
            print(f"ui: {page}\nui: press Ctrl-C to stop the server", flush=True)
        pass_on_errors(process)
        raise PipelineError(f"the MLflow server ended with exit code {process.wait()}. Its messages are above.")


def experiment_id(client: "MlflowClient") -> str:
    """The id of the project's experiment; the demo's if only that one has runs."""
    names = (os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT, DEMO_EXPERIMENT)
    with explain_store_errors():
        found = [client.get_experiment_by_name(name) for name in names]
        ids = [experiment.experiment_id for experiment in found if experiment]
        return next((each for each in ids if client.search_runs([each], max_results=1)), ids[0])


def runs_page(server: str, experiment: str) -> str:
    """The address of an experiment's table of runs; without the query MLflow (3.17) opens its GenAI pages."""
    return f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def require_free(port: str) -> None:
    """Raise `PipelineError` unless a server can listen on the port."""
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise PipelineError(f"PORT is {port!r}, but it should be a number from 1 to 65535. Run {OTHER_PORT}")
    with socket() as probe:
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)  # a port whose last server has just ended is free
        try:
            probe.bind((HOST, int(port)))
        except OSError as error:
            raise PipelineError(
                f"cannot use port {port} of {HOST}: {error.strerror}. Stop the program that uses it, or run "
                f"{OTHER_PORT}"
            ) from None


@contextmanager
def mlflow_server(port: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that serves the store; it ends with the block, with all its children."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", port, "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--uvicorn-opts", "--log-level warning"],
        env=os.environ | QUIET | {"MLFLOW_BACKEND_STORE_URI": tracking_uri()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C must not reach it, because it would answer with a traceback
    )
    for name in STOP_SIGNALS:
        signal.signal(name, signal.default_int_handler)
    try:
        yield process
    finally:
        for name in STOP_SIGNALS:  # a second Ctrl-C must not leave the server behind
            signal.signal(name, signal.SIG_IGN)
        for name in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, name)
                process.wait(5)


def answers(port: str) -> bool:
    """Whether the server answers."""
    connection = HTTPConnection(HOST, int(port), timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def pass_on_errors(process: "subprocess.Popen[str]") -> None:
    """Print what the server writes to stderr, without its notice, until it ends."""
    for line in process.stderr or ():
        if not line.startswith(NOTICE):
            print(line, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with exit_on_error("ui"), suppress(KeyboardInterrupt):
        ui(sys.argv[1])
