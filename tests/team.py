"""The team's store of deploy/ as plain processes on loopback: PostgreSQL, SeaweedFS, MLflow and nginx."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from projects import ROOT
from servers import free_port, kill, write_certificate

KEYS = {"AWS_ACCESS_KEY_ID": "team-key", "AWS_SECRET_ACCESS_KEY": "team-secret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "team"
USER, PASSWORD = "ada", "a b:ü"


def why_not(*programs):
    """Which of these programs, or which user, is missing; empty if none is."""
    missing = [name for name in programs if not program(name)]
    if "postgres" in programs and os.geteuid() == 0 and "postgres" not in {each.pw_name for each in pwd.getpwall()}:
        missing.append("the user postgres")
    return f"not installed: {', '.join(missing)}" if missing else ""


def program(name):
    """The path of a program, also of PostgreSQL's on Debian, which are not in PATH."""
    folders = [Path(sys.executable).parent, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"], "/usr/sbin"])
    return shutil.which(name, path=path)


@contextmanager
def started(command, port, log, **settings):
    """A process that listens on a port of loopback, killed with its children after the block."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **settings)
    try:
        deadline = time.monotonic() + 60
        while not is_open(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        kill(process)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def s3(folder):
    """SeaweedFS; yields the variables of a client that has the keys."""
    folder.mkdir()
    ports = {name: free_port() for name in ("s3.port", "master.port", "volume.port", "filer.port")}
    grpc = {f"{name}.grpc": free_port() for name in ports}
    command = [program("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-{name}={port}" for name, port in (ports | grpc).items()]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64"]
    with started(command, ports["s3.port"], folder.with_suffix(".log"), env=os.environ | KEYS):
        variables = KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}"}
        make_bucket(variables)
        yield variables


def client(variables, verify=None):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        verify=verify,
    )


def make_bucket(variables):
    """Create the bucket as soon as the server is ready."""
    from botocore.exceptions import ClientError, EndpointConnectionError

    deadline = time.monotonic() + 60
    while True:
        try:
            client(variables).create_bucket(Bucket=BUCKET)
            client(variables).put_object(Bucket=BUCKET, Key="probe", Body=b"x")
            return
        except (ClientError, EndpointConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.3)


@contextmanager
def postgres(folder):
    """PostgreSQL on loopback with a database `mlflow`; yields its URI. It does not run as root."""
    folder.mkdir()
    port = free_port()
    as_user = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        for parent in folder.parents:
            if parent.owner() == "root" and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)
        as_user = ["runuser", "-u", "postgres", "--"]
    data = f"{folder}/data"
    initdb = [*as_user, program("initdb"), "-D", data, "-U", "mlflow", "--auth=trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    command = [*as_user, program("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", str(folder)]
    with started(command, port, folder.with_suffix(".log"), cwd="/"):
        uri = f"postgresql://mlflow@127.0.0.1:{port}"
        subprocess.run([program("psql"), f"{uri}/postgres", "-qc", "CREATE DATABASE mlflow"], check=True)
        yield f"{uri}/mlflow"


@contextmanager
def mlflow(folder, database, variables, port=None):
    """MLflow's server on that database, with files in S3, started as deploy/compose.yaml does; yields its address."""
    port = port or free_port()
    compose = (ROOT / "deploy/compose.yaml").read_text()
    assert "--artifacts-destination s3://team/mlflow" in compose
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database.replace("postgresql:", "postgresql+psycopg2:")]
    command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
    command += ["--allowed-hosts", "localhost:*,127.0.0.1:*", "--cors-allowed-origins", "https://localhost"]
    environment = os.environ | variables | {"MLFLOW_S3_ENDPOINT_URL": variables["AWS_ENDPOINT_URL"]}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with started(command, port, folder / "mlflow.log", env=environment, cwd=folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx(folder, mlflow_address, s3_address):
    """deploy/nginx.conf with the ports of this store; yields MLflow's address, S3's address, and the certificate."""
    (folder / "secrets").mkdir()
    write_certificate(folder / "secrets/server.crt")  # with the key in the same file
    shutil.copy(folder / "secrets/server.crt", folder / "secrets/server.key")
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
    )
    (folder / "secrets/users").write_text(f"{USER}:{hashed.stdout}")
    ports = {"443": free_port(), "8333": free_port()}
    conf = (ROOT / "deploy/nginx.conf").read_text()
    for listened, port in ports.items():
        conf = conf.replace(f"listen {listened} ssl", f"listen 127.0.0.1:{port} ssl")
    conf = conf.replace("http://mlflow:5000", mlflow_address).replace("http://s3:8333", s3_address)
    (folder / "nginx.conf").write_text(f"pid {folder}/nginx.pid; error_log {folder}/nginx.err; daemon off;\n{conf}")
    for name in ("secrets", "."):
        (folder / name).chmod(0o755)
    command = [program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.err")]
    with started(command, ports["443"], folder / "nginx.log"):
        yield f"https://localhost:{ports['443']}", f"https://localhost:{ports['8333']}", folder / "secrets/server.crt"
