"""docs/team.md: PostgreSQL, S3 and an MLflow server; and what a second clone gets from them."""

import base64
import filecmp
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import team
import yaml
from mlflow import MlflowClient
from projects import ENVIRONMENT, ROOT, as_clone, make, run, set_params
from servers import free_port

from pipeline.common.files import sha256_of
from pipeline.distributed.storage import SharedFile, download, exists, fetch, remove_folder, share, upload

needs_s3 = pytest.mark.skipif(bool(team.why_not("weed")), reason=team.why_not("weed"))
STACK = ("weed", "initdb", "postgres", "psql")
needs_stack = pytest.mark.skipif(bool(team.why_not(*STACK)), reason=team.why_not(*STACK))
RUNS = """
import sys
from pipeline.tracking.runs import training_run
for number in range(int(sys.argv[1])):
    with training_run({"client": sys.argv[2], "number": str(number)}) as record:
        import mlflow
        mlflow.log_metrics({"accuracy": number / 10}, step=1)
        mlflow.log_text(f"{sys.argv[2]} {number}", "note.txt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("team")


@pytest.fixture(scope="module")
def s3(folder):
    with team.s3(folder / "s3") as variables:
        yield variables


@pytest.fixture(scope="module")
def database(folder):
    with team.postgres(folder / "postgres") as uri:
        yield uri


@pytest.fixture(scope="module")
def server(folder, database, s3):
    with team.mlflow(folder, database, s3) as address:
        yield address


@needs_s3
def test_the_storage_of_a_search_can_be_s3(s3, tmp_path, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    split = tmp_path / "train.npz"
    split.write_bytes(b"images" * 1000)
    file = share(split, sha256_of(split), "s3://team/tune/splits")
    assert file == SharedFile(f"s3://team/tune/splits/{sha256_of(split)}.npz", sha256_of(split))
    assert fetch(file).read_bytes() == split.read_bytes()
    upload(split, "s3://team/tune/search/unfinished/a.npz")
    split.write_bytes(b"new")
    upload(split, "s3://team/tune/search/unfinished/a.npz")
    download("s3://team/tune/search/unfinished/a.npz", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"new"
    remove_folder("s3://team/tune/search")
    assert not exists("s3://team/tune/search/unfinished/a.npz")
    assert exists(file.address)


@needs_stack
def test_a_second_clone_gets_results_and_the_same_bundle(project, server, s3, tmp_path):
    as_clone(project)
    store = {"MLFLOW_TRACKING_URI": server}
    remote = {name: value for name, value in s3.items() if name.startswith("AWS_")}
    team_make(project, "repro", **store)
    team_make(project, "export", **store)
    for command in (
        ["remote", "add", "--default", "team", "s3://team/dvc"],
        ["remote", "modify", "team", "endpointurl", s3["AWS_ENDPOINT_URL"]],
        ["push"],
    ):
        done = run(project, "dvc", *command, **remote)
        assert done.returncode == 0, done.stderr
    subprocess.run(["git", "add", "--all"], cwd=project, check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *identity, "commit", "-qm", "first model"], cwd=project, check=True)

    second = tmp_path / "second clone"
    subprocess.run(["git", "clone", "-q", project, second], check=True)
    assert run(second, "dvc", "pull", **remote).returncode == 0
    again = team_make(second, "repro", **store)
    assert again.count("didn't change, skipping") == 6
    exported = team_make(second, "export", **store)
    assert "version 1" in exported
    difference = filecmp.dircmp(project / "dist/cifar10-classifier-v1", second / "dist/cifar10-classifier-v1")
    assert not difference.left_only + difference.right_only + difference.diff_files
    assert len(difference.same_files) >= 5

    set_params(second, train={"seed": 1, "epochs": 3})
    team_make(second, "repro", **store)
    team_make(second, "export", "ALLOW=1", **store)
    assert (second / "dist/cifar10-classifier-v2").is_dir()
    rolled = team_make(project, "rollback", "VERSION=1", **store)
    assert "version 1" in rolled


def team_make(folder, *arguments, **variables):
    done = make(folder, *arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_stack
def test_eight_clients_at_once_lose_no_run(server, s3):
    variables = {"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": "clients"}
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", RUNS, "5", str(client)], cwd=ROOT, env=os.environ | variables, stderr=subprocess.PIPE
        )
        for client in range(8)
    ]
    for client in clients:
        _, errors = client.communicate(timeout=300)
        assert client.returncode == 0, errors
    store = MlflowClient(server)
    runs = store.search_runs([store.get_experiment_by_name("clients").experiment_id])
    assert {(each.data.tags["client"], each.data.tags["number"]) for each in runs} == {
        (str(client), str(number)) for client in range(8) for number in range(5)
    }
    assert {each.info.status for each in runs} == {"FINISHED"}
    assert all(each.info.artifact_uri.startswith("mlflow-artifacts:/") for each in runs)  # clients need no S3 keys
    assert [file.path for file in store.list_artifacts(runs[0].info.run_id)] == ["note.txt"]


@needs_stack
def test_a_server_that_is_killed_in_mid_training_and_started_again_gets_the_whole_run(project, database, s3, tmp_path):
    set_params(project, train={"epochs": 40})
    as_clone(project)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "killed"}
    with team.mlflow(tmp_path, database, s3, port):
        repro = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project,
            env=ENVIRONMENT | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for("epoch 2/40 ", repro)
    wait_for("epoch 4/40 ", repro)
    os.killpg(repro.pid, signal.SIGSTOP)  # a training of a moment waits for the server to start
    with team.mlflow(tmp_path, database, s3, port):
        os.killpg(repro.pid, signal.SIGCONT)
        _, errors = repro.communicate(timeout=240)
        assert repro.returncode == 0, errors
        assert re.search(rf"^train: warning: the MLflow store {address} failed: .* Training continues", errors, re.M)
        store = MlflowClient(address)
        (found,) = store.search_runs([store.get_experiment_by_name("killed").experiment_id])
        history = store.get_metric_history(found.info.run_id, "validation_accuracy")
        assert sorted(metric.step for metric in history) == list(range(1, 41))
        assert found.info.status == "FINISHED"
        assert {"test_accuracy", "best_validation_accuracy", "parity_images"} <= found.data.metrics.keys()
        assert "model.onnx" in {file.path for file in store.list_artifacts(found.info.run_id)}


def wait_for(start, process):
    """Read the output up to a line with this start."""
    while not process.stdout.readline().startswith(start):
        assert process.poll() is None, process.stderr.read()


@needs_stack
@pytest.mark.skipif(bool(team.why_not("nginx", "openssl")), reason=team.why_not("nginx", "openssl"))
def test_nginx_asks_for_a_password_and_passes_signed_requests(server, s3, tmp_path):
    with team.nginx(tmp_path, server, s3["AWS_ENDPOINT_URL"]) as (mlflow, objects, certificate):
        login = {"MLFLOW_TRACKING_USERNAME": team.USER, "MLFLOW_TRACKING_PASSWORD": team.PASSWORD}
        trust = {"REQUESTS_CA_BUNDLE": str(certificate), "AWS_CA_BUNDLE": str(certificate)}
        environment = os.environ | trust | {"MLFLOW_TRACKING_URI": mlflow, "MLFLOW_EXPERIMENT_NAME": "nginx"}
        command = [sys.executable, "-c", RUNS, "1", "0"]
        done = subprocess.run(command, cwd=ROOT, env=environment | login, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wrong = login | {"MLFLOW_TRACKING_PASSWORD": "wrong"}
        done = subprocess.run(command, cwd=ROOT, env=environment | wrong, capture_output=True, text=True)
        assert done.returncode == 1
        assert "401" in done.stderr
        bucket = team.client(s3 | {"AWS_ENDPOINT_URL": objects}, verify=str(certificate))
        assert bucket.get_object(Bucket=team.BUCKET, Key="probe")["Body"].read() == b"x"
        context = ssl.create_default_context(cafile=certificate)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{objects}/team/probe", context=context)
        encoded = base64.b64encode(f"{team.USER}:{team.PASSWORD}".encode()).decode()
        page = urllib.request.Request(mlflow, headers={"Authorization": f"Basic {encoded}"})
        assert b"MLflow" in urllib.request.urlopen(page, context=context).read()


def test_the_compose_file_has_the_commands_of_the_documentation():
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    assert list(compose["services"]) == ["postgres", "s3", "mlflow", "nginx"]
    published = {name: facts["ports"] for name, facts in compose["services"].items() if "ports" in facts}
    assert published == {"nginx": ["443:443", "8333:8333"]}
    locked = dict(re.findall(r"^([a-z0-9-]+)==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for name, version in re.findall(
        r"([a-z0-9-]+)==([\d.]+)", compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    ):
        assert locked[name] == version
    for name in re.findall(r"\$\{(\w+):\?\}", (ROOT / "deploy/compose.yaml").read_text()):
        assert f"{name}=" in (ROOT / "docs/team.md").read_text()
