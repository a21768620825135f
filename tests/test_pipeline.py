"""The whole DAG through real DVC, MLflow, Great Expectations, tf2onnx and ONNX Runtime, and what interrupts it."""

import csv
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import yaml
from chaos import STAGES, kill_during, outputs, run_timed, stage_command
from hostile_settings import hostile_settings
from projects import ENVIRONMENT, ROOT, as_clone, make, make_project, run, set_params

from pipeline.common.files import sha256_of
from pipeline.data.splits import read_split
from pipeline.onnx.session import open_session, predict_probabilities

METRICS = {
    "validate": {"success", "expectations", "failed", "images", "splits"},
    "drift": {"compared"},
    "train": {"validation_accuracy", "validation_loss", "epochs", "temperature"},
    "train_timing": {"seconds", "images_per_second"},
    "evaluate": {
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "macro_f1",
        "images",
        "top3_accuracy",
        "calibration_error",
    },
    "export": {"parity_images", "parity_max_abs_difference", "parity_argmax_disagreements", "bytes", "opset"},
}
HEADLINE = {
    "train": ["validation_accuracy"],
    "evaluate": ["accuracy", "macro_f1"],
    "near_duplicates": ["accuracy_without_duplicates"],
    "robustness": ["corrupted_accuracy"],
}


def dvc(folder, *arguments):
    return run(folder, "dvc", *arguments)


def query(folder, sql):
    with sqlite3.connect(folder / "mlflow.db") as connection:
        return connection.execute(sql).fetchall()


on_finished = pytest.mark.xdist_group("finished")  # one process runs the tests that share the finished project


@pytest.fixture(scope="session")
def finished(tmp_path_factory, archive):
    """A clone in which `make repro` ran once; log.txt holds what it printed, durations.json each stage's seconds."""
    folder = make_project(tmp_path_factory.mktemp("pipeline") / "a project", archive)
    as_clone(folder)
    log, durations = run_timed(folder)
    (folder.parent / "durations.json").write_text(json.dumps(durations))
    (folder.parent / "log.txt").write_text(log)
    return folder


@on_finished
def test_the_log_is_quiet_and_tells_each_stages_result(finished):
    log = (finished.parent / "log.txt").read_text()
    for line in (
        "download: data/raw",
        "prepare: 400 train",
        "validate: 600 images",
        "epoch 2/2",
        "evaluate: accuracy",
        "export: models/model.onnx",
    ):
        assert line in log
    noise = ("Warning", "WARNING", "oneDNN", "cuInit", "I0000", "E0000", "NodeDef", "INFO", "it/s]")
    assert not [word for word in noise if word in log]


@on_finished
def test_another_user_in_another_folder_gets_the_same_bytes(finished, archive, tmp_path):
    """Whatever that user's configuration files and variables say; Data Docs too."""
    folder = make_project(tmp_path / "another", archive)
    settings = hostile_settings(tmp_path / "home") | {"PYTHONWARNINGS": ""}  # with "error", DVC itself fails
    run(folder, "dvc", "init", "--no-scm", "--quiet")
    done = run(folder, "dvc", "repro", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    made = outputs(folder)
    assert len(made) > 50
    assert made == {name: sha256 for name, sha256 in outputs(finished).items() if name in made}


@on_finished
def test_every_output_holds_what_the_contract_says(finished):
    for name, keys in METRICS.items():
        figures = json.loads((finished / f"reports/metrics/{name}.json").read_text())
        assert keys <= figures.keys()
    split = read_split(finished / "data/splits/test.npz")
    with (finished / "reports/predictions.csv").open() as file:
        predicted = [line.split(",")[2] for line in file][1:]
    probabilities = predict_probabilities(open_session(finished / "models/model.onnx"), split.images, 64)
    assert split.class_names[probabilities.argmax(1)].tolist() == predicted
    for picture in (
        "contact_sheet.png",
        "test/confusion_matrix.png",
        "test/predictions.png",
        "test/mistakes.png",
        "test/reliability.png",
    ):
        assert (finished / "reports/plots" / picture).stat().st_size > 1000


@on_finished
def test_one_mlflow_run_holds_training_evaluation_and_export(finished):
    assert query(finished, "select status from runs") == [("FINISHED",)]
    metrics = dict(query(finished, "select key, value from latest_metrics"))
    assert {"best_validation_accuracy", "test_accuracy", "parity_images", "train_seconds"} <= metrics.keys()
    assert [name for name in metrics if name.startswith("system/")]
    tags = dict(query(finished, "select key, value from tags"))
    locked = yaml.safe_load((finished / "dvc.lock").read_text())["stages"]
    for stage in STAGES[:-1]:
        assert json.loads(tags[f"dvc.{stage}"]) == {out["path"]: out["md5"] for out in locked[stage]["outs"]}
    assert tags["onnx_sha256"] == sha256_of(finished / "models/model.onnx")
    assert (finished / "mlartifacts").is_dir()
    assert not (finished / "mlruns").exists()


@on_finished
def test_with_nothing_to_do_nothing_runs(finished):
    done = dvc(finished, "repro")
    assert "Data and pipelines are up to date." in done.stdout
    assert "Running stage" not in done.stdout


def paths_of(folder, stage):
    """The outputs of a stage, with its metrics."""
    locked = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return [out["path"] for out in locked[stage]["outs"]]


@pytest.fixture
def changed(finished):
    """Changes params.yaml for one test; afterwards `dvc repro` takes everything back from DVC's cache."""
    before, params = outputs(finished), (finished / "params.yaml").read_text()
    yield lambda **sections: set_params(finished, **sections)
    (finished / "params.yaml").write_text(params)
    again = dvc(finished, "repro")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "pipeline.train" not in again.stdout
    assert outputs(finished) == before


@on_finished
def test_a_refused_data_set_stops_before_train_even_when_train_alone_is_asked_for(finished, changed):
    changed(validate={"channel_means": [0.9, 0.9, 0.9]})
    done = dvc(finished, "repro")
    assert done.returncode != 0
    assert "The mean of red matches section validate of params.yaml." in done.stderr
    assert "Traceback" not in done.stderr
    assert "Running stage 'train'" not in done.stdout
    assert json.loads((finished / "reports/metrics/validate.json").read_text())["success"] is False
    alone = dvc(finished, "repro", "--single-item", "train")
    assert alone.returncode != 0
    assert "train: the data failed validation" in alone.stderr


@on_finished
def test_a_failed_training_leaves_no_model_and_all_else_as_it_was(finished, changed):
    before, runs = outputs(finished), query(finished, "select * from runs")
    changed(train={"learning_rate": 1e30})
    done = dvc(finished, "repro")
    assert done.returncode != 0
    assert "train: the loss became" in done.stderr
    assert "Traceback" not in done.stderr
    own = set(paths_of(finished, "train")) - {"reports/metrics/train_timing.json"}
    assert outputs(finished) == {name: sha256 for name, sha256 in before.items() if name not in own}
    assert set(runs) < set(query(finished, "select * from runs"))
    assert query(finished, "select status, count(*) from runs group by status") == [("FAILED", 1), ("FINISHED", 1)]


@on_finished
def test_a_wrong_value_stops_make_repro_before_the_first_stage(finished, changed):
    changed(export={"opset": 99})
    done = make(finished, "repro")
    assert done.returncode != 0
    assert "params: params.yaml has a wrong value:\n  export.opset is 99" in done.stderr
    assert "stage" not in done.stdout


@on_finished
def test_make_export_registers_the_model_and_writes_its_bundle(finished):
    done = make(finished, "export")
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = finished / "dist/cifar10-classifier-v1"
    assert sha256_of(bundle / "model.onnx") == sha256_of(finished / "models/model.onnx")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["data"] == "generated"
    assert manifest["lineage"]["dvc_stages"].keys() == set(STAGES[:-1])
    assert manifest["lineage"]["git_commit"]


@on_finished
def test_make_evidence_ends_in_a_report_and_the_pipeline_alone_does_not_run_it(finished, tmp_path):
    assert not (finished / "reports/report.html").exists()
    folder = tmp_path / "a copy"
    shutil.copytree(finished, folder, symlinks=True)
    done = make(folder, "evidence")
    assert done.returncode == 0, done.stderr
    for stage in ("near_duplicates", "slices", "suspect_labels", "robustness", "report"):
        assert f"{stage}: " in done.stdout
    assert "NodeDef" not in done.stdout + done.stderr
    page = (folder / "reports/report.html").read_text()
    assert "Evidence for a classifier of generated" in page
    again = make(folder, "evidence")
    assert "Running stage" not in again.stdout
    assert outputs(folder) | outputs(finished) == outputs(folder)  # what was there is as it was
    run_id = query(folder, "select run_uuid from tags where key = 'parity_passed'")[0][0]
    assert list(folder.glob(f"mlartifacts/{run_id}/artifacts/report.html"))
    metrics = dict(query(folder, "select key, value from latest_metrics"))
    assert {"robustness_kept_share", "near_duplicates_pairs", "suspect_labels_share"} <= metrics.keys()
    assert headline_columns(folder) == sorted(name for names in HEADLINE.values() for name in names)
    assert_experiments_fit_a_screen(folder)


def headline_columns(folder):
    """The columns of `dvc metrics show`."""
    shown = json.loads(dvc(folder, "metrics", "show", "--json").stdout)[""]["data"]
    return sorted(name for file in shown.values() for name in file.get("data", {}))


def assert_experiments_fit_a_screen(folder):
    """`dvc exp show --only-changed` has at most 160 columns, with every headline figure and the changed parameter."""
    for command in ("add --all", "-c user.name=a -c user.email=a@example.com commit --quiet --message results"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    set_params(folder, train={"learning_rate": 0.01})
    for file in folder.glob("reports/headline/*.json"):  # as another training would leave them
        file.write_text(json.dumps({name: value / 2 for name, value in json.loads(file.read_text()).items()}))
    table = dvc(folder, "exp", "show", "--only-changed").stdout.splitlines()
    assert max(map(len, table)) <= 160
    header = next(line for line in table if "Experiment" in line)
    assert sorted(header.split()) == sorted(["Experiment", "Created", *headline_columns(folder), "train.learning_rate"])


@on_finished
def test_dvcs_tables_hold_the_headline_figures_only(finished):
    assert headline_columns(finished) == sorted(HEADLINE["train"] + HEADLINE["evaluate"])
    for name, keys in HEADLINE.items():
        if (finished / f"reports/headline/{name}.json").exists():
            headline = json.loads((finished / f"reports/headline/{name}.json").read_text())
            figures = json.loads((finished / f"reports/metrics/{name}.json").read_text())
            assert headline == {key: figures[key] for key in keys}


@on_finished
def test_make_seeds_trains_each_seed_once_and_tells_the_spread(finished):
    before = outputs(finished)
    done = make(finished, "seeds", "N=2")
    assert done.returncode == 0, done.stderr
    assert "seeds: 2 trainings that differ only in their seed:" in done.stdout
    assert "\n  epoch 2/2 " in done.stdout
    first, second = list(csv.DictReader((finished / "reports/seeds.csv").open()))
    assert (first["seed"], second["seed"]) == ("0", "1")
    kept = json.loads((finished / "reports/metrics/evaluate.json").read_text())["accuracy"]
    assert float(first["test_accuracy"]) == kept  # params.yaml has seed 0: the same training
    assert first["validation_accuracy"] != second["validation_accuracy"]
    assert json.loads((finished / "reports/seeds.json").read_text())["trainings"] == 2
    assert {"seed-0", "seed-1"} <= set(dvc(finished, "exp", "list", "--name-only").stdout.split())
    for name in ("seeds.csv", "seeds.json"):
        (finished / "reports" / name).unlink()
    assert outputs(finished) == before


@on_finished
def test_an_experiment_in_a_temporary_folder_is_recorded_in_the_repository(finished):
    log = dvc(finished, "exp", "run", "--temp", "--name", "longer", "-S", "train.epochs=3")
    assert log.returncode == 0, log.stdout + log.stderr
    tagged = (
        "select run_uuid, status from runs join tags using (run_uuid) where key = 'dvc_exp_name' and value = 'longer'"
    )
    ((run_id, status),) = query(finished, tagged)
    assert status == "FINISHED"
    assert (finished / "mlartifacts" / run_id / "artifacts/model.onnx").exists()
    assert not list((finished / ".dvc/tmp/exps").rglob("mlflow.db"))
    epochs = f"select value from params where run_uuid = '{run_id}' and key = 'train.epochs'"
    assert query(finished, epochs) == [("3",)]


@on_finished
def test_compiled_files_do_not_run_a_stage_again(finished):
    """Folders of code are dependencies: their __pycache__ must not count."""
    compiled = finished / "pipeline/common/__pycache__/made_by_a_test.pyc"
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(b"x")
    assert "up to date" in dvc(finished, "repro").stdout
    compiled.unlink()


@on_finished
def test_editing_a_library_runs_the_stages_that_import_it(finished):
    edited = finished / "pipeline/evaluation/metrics.py"
    before = edited.read_text()
    edited.write_text(before + "# edited\n")
    changed = dvc(finished, "status").stdout
    edited.write_text(before)
    assert "evaluate:" in changed
    assert "train:" not in changed


@on_finished
def test_a_model_from_the_cache_without_its_run_gets_a_run_that_says_so(finished, tmp_path):
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = run(finished, "dvc", "repro", "--force", "--single-item", "evaluate", "export", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(query(tmp_path, "select * from runs")) == 1
    tags, metrics = (dict(query(tmp_path, f"select key, value from {table}")) for table in ("tags", "latest_metrics"))
    assert "Opened after training" in tags["mlflow.note.content"]
    assert {"best_validation_accuracy", "validation_accuracy", "test_accuracy", "parity_images"} <= metrics.keys()


@on_finished
def test_a_training_that_was_killed_goes_on_at_the_next_dvc_repro(finished, changed):
    changed(train={"epochs": 40, "seed": 5})
    command = [sys.executable, "-m", "dvc", "repro", "train"]
    process = subprocess.Popen(
        command, cwd=finished, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while not process.stdout.readline().startswith("epoch 3/"):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = dvc(finished, "repro", "train")
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"resumes after epoch [2-9]", again.stdout)
    assert not list(finished.glob("models/.unfinished/*.npz"))


@on_finished
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_a_random_moment_and_forced_to_run_again_a_stage_writes_the_same_bytes(finished, stage):
    before, seed = outputs(finished), random.randrange(1000)
    duration = json.loads((finished.parent / "durations.json").read_text())[stage]
    if stage == "download":
        (finished / "data/raw/cifar-10-python.tar.gz").unlink()  # a file that is there would be kept
    kill_during(finished, stage_command(stage), random.Random(seed).uniform(0, duration), f"python -m pipeline.{stage}")
    if "incomplete" in run(finished, "pipeline.recover").stdout:  # the kill hit DVC while it wrote its lock file
        assert dvc(finished, "repro").returncode == 0
    # Forced, since a plain `dvc repro` takes the outputs of the earlier run from DVC's cache.
    again = dvc(finished, *stage_command(stage)[3:])
    assert again.returncode == 0, f"seed {seed}: " + again.stdout + again.stderr
    assert outputs(finished) == before, f"seed {seed}"
    assert "Data and pipelines are up to date." in dvc(finished, "repro").stdout
    assert not list(finished.rglob(".partial*"))


@on_finished
def test_two_pipelines_train_at_once_on_one_store(tmp_path, finished, splits):
    store, pair = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}, []
    for name in ("one", "two"):
        environment = os.environ | store | {"DVC_ROOT": str(tmp_path / name)}  # else one would wait for the other
        inputs = {"train_split": "train", "validation_split": "validation", "verdict": "verdict"}
        files = {argument: splits[key] for argument, key in inputs.items()}
        files |= {each: tmp_path / name / each for each in ("metrics", "headline", "timing", "curves", "model")}
        command = [sys.executable, "-m", "pipeline.train", *(f"{each}={path}" for each, path in files.items())]
        pair.append(subprocess.Popen(command, cwd=finished, env=environment, stdout=subprocess.DEVNULL))
    assert [process.wait() for process in pair] == [0, 0]
    assert query(tmp_path, "select status from runs") == [("FINISHED",), ("FINISHED",)]
    assert len(query(tmp_path, "select distinct experiment_id from runs")) == 1
    assert np.array_equal(*((tmp_path / name / "model").read_bytes() for name in ("one", "two")))


def test_the_demo_runs_and_ends_with_a_table(tmp_path):
    """A small one; its tracked files stay as they were, its run is in the experiment `demo`."""
    folder = make_demo(tmp_path)
    done = run(folder, "demo_small")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("Demo done:") :]
    for part in ("600 generated images", "Keras model", "accuracy", "bytes, at most", ".demo/models/model.onnx"):
        assert part in table
    assert (folder / ".demo/models/model.onnx").exists()
    names = [
        name for (name,) in query(folder, "select experiments.name from experiments join runs using (experiment_id)")
    ]
    assert names == ["demo"]
    assert (folder / "mlartifacts").is_dir()
    assert not (folder / ".demo/mlartifacts").exists()
    assert not (folder / "models").exists()
    assert not (folder / "dvc.lock").exists()


def make_demo(tmp_path):
    """The project with a module that runs a demo of fewer images."""
    folder = tmp_path / "a demo"
    folder.mkdir()
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    (folder / "demo_small.py").write_text(
        "from pathlib import Path\n"
        "from pipeline import demo\n"
        "demo.IMAGES_PER_BATCH = 100\n"
        "demo.SECTIONS['validate'] |= {'train_images': 500, 'test_images': 100, 'tolerance': 0.1}\n"
        "demo.SECTIONS['prepare']['validation_images'] = 100\n"
        "demo.SECTIONS['train']['epochs'] = 1\n"
        "demo.demo(Path('.demo'))\n"
    )
    return folder
