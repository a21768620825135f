"""make export and make rollback on a real MLflow store, with runs like those of train, evaluate and export."""

import contextlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from hostile_models import HOSTILE, STRICT, SUBGRAPH, colours, colours_of
from onnx import helper
from PIL import Image
from projects import ROOT, approve, run
from stores import empty_store
from toy_models import COLOURS, colour_model

from pipeline.common.errors import PipelineError
from pipeline.common.files import exclusive, read_json, sha256_of, write_csv, write_json
from pipeline.data.pictures import PREPROCESSING
from pipeline.data.splits import Split, write_split
from pipeline.promote import PromoteParams, promote
from pipeline.registry import store
from pipeline.registry.artifacts import REGISTERED_NAME, content_sha256
from pipeline.rollback import rollback
from pipeline.tracking.store import connect

PARAMS = PromoteParams(significance=0.05, maximum_milliseconds=1000.0, maximum_megabytes=1.0, int8_loss=0.005)
ALL_COLOURS, NO_BLUE, NO_GREEN, ALL_COLOURS_RENAMED = range(4)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """ONNX files of models that recognize all colours, all except blue, all except green, and again all."""
    paths = []
    for blind_to, name in ((None, "sees all colours"), (2, "no blue"), (1, "no green"), (None, "renamed")):
        paths.append(tmp_path_factory.mktemp("model") / "model.onnx")
        model = colour_model(blind_to)
        model.graph.name = name
        helper.set_model_props(model, {"class_names": json.dumps(COLOURS)})
        paths[-1].write_bytes(model.SerializeToString(deterministic=True))
    return paths


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client of an empty store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    monkeypatch.chdir(tmp_path)
    return connect()


@pytest.fixture
def data(tmp_path):
    """Splits of 40 red, 40 green and 40 blue images, and their verdict."""
    return write_splits(tmp_path / "data", [40, 40, 40])


def write_splits(folder, counts, archive_sha256="ab" * 32, side=32):
    """Three splits with these numbers of red, green and blue images, and their verdict; paths by name."""
    folder.mkdir()
    labels = np.repeat(np.arange(3, dtype=np.uint8), counts)
    images = np.random.default_rng(0).integers(0, 50, (len(labels), side, side, 3), np.uint8)
    images[np.arange(len(labels)), ..., labels] += 150
    split = Split(images, labels, np.arange(len(labels), dtype=np.int32), np.array(COLOURS), archive_sha256)
    paths = {name: folder / f"{name}.npz" for name in ("train", "validation", "test")}
    for path in paths.values():
        write_split(path, split)
    verdict = approve(folder / "validate.json", paths)
    verdict.write_text(json.dumps(json.loads(verdict.read_text()) | {"archive_sha256": archive_sha256}))
    return paths | {"verdict": verdict}


def tags_of(data):
    content = json.loads(data["verdict"].read_text())
    return {name: content[name] for name in ("archive_sha256", "splits_sha256")}


def add_run(client, model, data, validation_accuracy, status="FINISHED", **tags):
    """A run like those of the pipeline; returns its id."""
    import mlflow

    facts = tags_of(data) | {
        "parity_passed": "true",
        "model_sha256": "ef" * 32,
        "onnx_sha256": sha256_of(model),
        "model": "colours",
        "data": "painted images",
    }
    with mlflow.start_run(tags=facts | {"dvc.train": json.dumps({"models/model.keras": "12"})} | tags) as active:
        mlflow.log_artifact(str(model))
        rows = [{"class_name": name, "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10} for name in COLOURS]
        write_csv(model.with_name("per_class.csv"), rows)
        mlflow.log_artifact(str(model.with_name("per_class.csv")))
        for name in ("confusion_matrix.png", "predictions.png"):
            mlflow.log_image(Image.new("RGB", (8, 8)), f"pictures/{name}")
        figures = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6, "macro_f1": 0.5, "images": 100}
        figures["calibration_error"] = 0.02
        mlflow.log_metrics({f"test_{name}": value for name, value in figures.items()})
        mlflow.log_metrics({"parity_max_abs_difference": 1e-6, "parity_images": 100})
        if validation_accuracy is not None:
            mlflow.log_metric("best_validation_accuracy", validation_accuracy)
    client.set_terminated(active.info.run_id, status)
    return active.info.run_id


def export(data, params=PARAMS, allow=False):
    promote(params, data["verdict"], data["train"], data["validation"], data["verdict"].parents[1] / "dist", allow)


def champion(client):
    return client.get_model_version_by_alias(REGISTERED_NAME, "champion")


def decisions(client):
    found = client.search_model_versions(f"name = '{REGISTERED_NAME}'")
    return {int(version.version): version.tags.get("decision") for version in found}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_best_run_on_validation_becomes_champion_and_its_bundle_is_written(client, models, data, tmp_path):
    add_run(client, models[NO_BLUE], data, 0.66)
    best = add_run(client, models[ALL_COLOURS], data, 1.0, git_commit="c0ffee")
    export(data)
    assert (champion(client).run_id, decisions(client)) == (best, {1: "promoted"})
    bundle = tmp_path / f"dist/{REGISTERED_NAME}-v1"
    assert sha256_of(bundle / "model.onnx") == sha256_of(models[ALL_COLOURS])
    assert {path.name for path in (bundle / "pictures").iterdir()} == {"confusion_matrix.png", "predictions.png"}
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}]
    assert manifest["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}]
    assert (manifest["opset"], manifest["ir_version"], manifest["data"]) == (13, 7, "painted images")
    assert (manifest["metrics"]["validation_accuracy"], manifest["metrics"]["test_accuracy"]) == (1.0, 0.5)
    assert manifest["preprocessing"] == PREPROCESSING  # also of a model that names none
    lineage = manifest["lineage"]
    assert (lineage["mlflow_run_id"], lineage["git_commit"], lineage["model_version"]) == (best, "c0ffee", 1)
    assert lineage["dvc_stages"] == {"train": {"models/model.keras": "12"}}
    assert manifest["latency"]["model.onnx"]["batch_1"]["p50_ms"] > 0
    assert manifest["int8"]["float_validation_accuracy"] == 1.0


def test_models_of_larger_images_have_their_side_in_manifest_card_and_signature(client, tmp_path):
    import mlflow

    (tmp_path / "model.onnx").write_bytes(colours(side=48))
    data = write_splits(tmp_path / "data", [40, 40, 40], side=48)
    run_id = add_run(client, tmp_path / "model.onnx", data, 1.0)
    export(data)
    bundle = tmp_path / f"dist/{REGISTERED_NAME}-v1"
    manifest, card = json.loads((bundle / "manifest.json").read_text()), (bundle / "README.md").read_text()
    assert manifest["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["batch", 48, 48, 3]}]
    for text in (
        "classifies 48 x 48 RGB",
        "uint8 [batch, 48, 48, 3]",
        "np.zeros((1, 48, 48, 3)",
        "48 x 48 pixels by averaging",
    ):
        assert text in card
    signature = mlflow.models.get_model_info(f"models:/{REGISTERED_NAME}/1").signature
    assert signature.inputs.inputs[0].shape == (-1, 48, 48, 3)
    assert (champion(client).run_id, signature.outputs.inputs[0].shape) == (run_id, (-1, 3))


def test_a_second_export_registers_and_measures_nothing_and_writes_the_same_bytes(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    before = content(tmp_path / "dist")
    export(data)
    assert (decisions(client), content(tmp_path / "dist")) == ({1: "promoted"}, before)


def test_a_significantly_better_challenger_is_promoted(client, models, data, tmp_path, capsys):
    add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    better = add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    assert (champion(client).run_id, decisions(client)) == (better, {1: "promoted", 2: "promoted"})
    tags = champion(client).tags
    figures = [tags[f"decision.{name}"] for name in ("by", "against", "only_champion", "only_challenger")]
    assert figures == ["comparison", "1", "0", "40"]
    assert float(tags["decision.p_value"]) < 1e-9
    assert (
        "validation accuracy 100.00% against 66.67% of the champion on 120 images; only the challenger is correct on 40"
        in capsys.readouterr().out
    )
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == [f"{REGISTERED_NAME}-v{n}" for n in (1, 2)]


def test_a_challenger_without_a_significant_improvement_is_registered_and_compared_once(
    client, models, tmp_path, capsys
):
    data = write_splits(tmp_path / "data", [40, 40, 3])
    first = add_run(client, models[NO_BLUE], data, 0.96)
    export(data)
    before = content(tmp_path / "dist")
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    assert "only the challenger is correct on 3," in capsys.readouterr().out
    export(data)
    printed = capsys.readouterr().out
    assert f"version 2 of {REGISTERED_NAME}, decided before: kept-champion, not a statistically significant" in printed
    assert (champion(client).run_id, decisions(client)) == (first, {1: "promoted", 2: "kept-champion"})
    assert content(tmp_path / "dist") == before
    version = client.get_model_version(REGISTERED_NAME, "2")
    assert float(version.tags["decision.p_value"]) == 0.125
    export(data, allow=True)
    assert decisions(client) == {1: "promoted", 2: "promoted"}
    assert "by ALLOW=1; not a statistically significant improvement" in champion(client).tags["decision.reason"]


@pytest.mark.parametrize("limit", ["maximum_milliseconds", "maximum_megabytes"])
def test_a_challenger_over_a_limit_is_not_promoted(client, models, data, limit):
    first = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data, PARAMS.model_copy(update={limit: 1e-6}))
    assert (champion(client).run_id, decisions(client)) == (first, {1: "promoted", 2: "kept-champion"})
    assert f"promote.{limit} allows 1e-06" in client.get_model_version(REGISTERED_NAME, "2").tags["decision.reason"]


def test_after_the_limit_is_raised_the_challenger_is_compared_again(client, models, data):
    add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data, PARAMS.model_copy(update={"maximum_megabytes": 1e-6}))
    assert decisions(client) == {1: "promoted", 2: "kept-champion"}
    export(data)
    assert decisions(client) == {1: "promoted", 2: "promoted"}


def test_a_second_decision_that_was_interrupted_while_the_first_was_deleted_is_made_again(
    client, models, data, monkeypatch
):
    add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data, PARAMS.model_copy(update={"maximum_megabytes": 1e-6}))
    delete_tag = type(client).delete_model_version_tag

    def interrupted_after_the_first(*arguments):
        delete_tag(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(client), "delete_model_version_tag", interrupted_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            export(data, allow=True)
    export(data, PARAMS.model_copy(update={"maximum_megabytes": 1e-6}))
    assert decisions(client) == {1: "promoted", 2: "kept-champion"}


def test_a_decision_that_was_recorded_in_part_is_made_again(client, models, data, monkeypatch):
    add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    set_tag = type(client).set_model_version_tag

    def interrupted_before_the_decision(self, name, version, key, value):
        if key == "decision":
            raise KeyboardInterrupt
        set_tag(self, name, version, key, value)

    with monkeypatch.context() as patched:
        patched.setattr(type(client), "set_model_version_tag", interrupted_before_the_decision)
        with pytest.raises(KeyboardInterrupt):
            export(data)
    assert decisions(client) == {1: "promoted", 2: None}
    export(data)
    assert decisions(client) == {1: "promoted", 2: "promoted"}


def test_without_a_champion_a_model_over_a_limit_is_an_error(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    with pytest.raises(PipelineError, match=r"no run may become champion.*maximum_megabytes.*ALLOW=1"):
        export(data, PARAMS.model_copy(update={"maximum_megabytes": 1e-6}))
    assert not (tmp_path / "dist").exists()
    export(data)  # the limit is raised: it is compared again
    assert decisions(client) == {1: "promoted"}


def test_the_next_best_run_is_not_compared_after_the_best_one_was(client, models, tmp_path):
    data = write_splits(tmp_path / "data", [40, 40, 3])
    add_run(client, models[NO_BLUE], data, 0.96)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    add_run(client, models[NO_GREEN], data, 0.52)
    export(data)
    export(data)  # neither after a decision of an earlier call
    assert decisions(client) == {1: "promoted", 2: "kept-champion"}


def test_an_equal_challenger_is_not_promoted(client, models, data):
    first = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[NO_GREEN], data, 0.67)
    export(data)
    assert (champion(client).run_id, decisions(client)) == (first, {1: "promoted", 2: "kept-champion"})


@pytest.mark.parametrize(
    "flaw",
    [
        {"status": "FAILED"},
        {"status": "RUNNING"},
        {"parity_passed": "false"},
        {"archive_sha256": "00" * 32},
        {"splits_sha256": "00" * 32},
    ],
    ids=str,
)
def test_a_run_that_does_not_compete_is_ignored(client, models, data, flaw):
    add_run(client, models[ALL_COLOURS], data, 0.99, **flaw)
    good = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    assert champion(client).run_id == good


def test_a_run_without_its_files_does_not_compete(client, data):
    import mlflow

    with mlflow.start_run(tags=tags_of(data) | {"parity_passed": "true"}):
        mlflow.log_metrics({"best_validation_accuracy": 0.99, "test_accuracy": 0.5})
    with pytest.raises(PipelineError, match="no finished run"):
        export(data)


def test_a_run_without_validation_accuracy_does_not_compete(client, models, data):
    add_run(client, models[ALL_COLOURS], data, None)
    with pytest.raises(PipelineError, match="no finished run"):
        export(data)


def test_a_champion_on_other_data_is_replaced_without_a_comparison(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    other = write_splits(tmp_path / "other", [5, 5, 5], archive_sha256="00" * 32)
    run_id = add_run(client, models[NO_BLUE], other, 0.66)
    export(other)
    assert champion(client).run_id == run_id
    assert "decision.p_value" not in champion(client).tags


@pytest.mark.parametrize(
    "step",
    [
        "registry.store.register",
        "registry.store.record_decision",
        "registry.store.set_champion_alias",
        "promote.write_version_bundle",
    ],
)
def test_an_interrupted_export_continues_when_run_again(client, models, data, tmp_path, monkeypatch, step):
    add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    before = content(tmp_path / "dist")
    add_run(client, models[ALL_COLOURS], data, 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(f"pipeline.{step}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export(data)
    assert content(tmp_path / "dist") == before
    export(data)
    assert (int(champion(client).version), decisions(client)) == (2, {1: "promoted", 2: "promoted"})


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_a_rollback_lasts_until_there_is_a_better_run(client, models, data, tmp_path, capsys):
    first = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    rollback("1", tmp_path / "dist")
    assert (champion(client).run_id, decisions(client)) == (first, {1: "promoted", 2: "rolled-back"})
    export(data)
    printed = capsys.readouterr().out
    assert f"version 2 of {REGISTERED_NAME}, decided before: rolled-back, rolled back to version 1" in printed
    assert f"version 1 of {REGISTERED_NAME} stays champion" in printed
    assert (champion(client).run_id, champion(client).tags["decision.by"]) == (first, "rollback")
    better = add_run(client, models[ALL_COLOURS_RENAMED], data, 0.99)
    export(data)
    assert (champion(client).run_id, decisions(client)) == (better, {1: "promoted", 2: "rolled-back", 3: "promoted"})
    export(data, allow=True)
    assert int(champion(client).version) == 2


def test_a_version_that_a_rollback_promotes_has_no_figures_of_an_earlier_decision(client, models, data, tmp_path):
    add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    assert "decision.p_value" in champion(client).tags
    rollback("1", tmp_path / "dist")
    rollback("2", tmp_path / "dist")
    assert decisions(client) == {1: "rolled-back", 2: "promoted"}
    assert champion(client).tags["decision.reason"] == "rolled back to version 2"
    assert "decision.p_value" not in champion(client).tags


def test_a_rollback_to_a_changed_version_changes_nothing(client, models, data, tmp_path):
    first = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    (per_class,) = tmp_path.rglob(f"mlartifacts/{first}/artifacts/onnx_model_*/per_class.csv")
    per_class.write_text("class_name\ncat\n")
    with pytest.raises(PipelineError, match="the files of version 1 of"):
        rollback("1", tmp_path / "dist")
    assert (int(champion(client).version), decisions(client)) == (2, {1: "promoted", 2: "promoted"})


def test_if_a_limit_excludes_the_best_run_the_next_best_is_compared(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    small = add_run(client, models[NO_BLUE], data, 0.66)
    sizes = [models[place].stat().st_size / 1e6 for place in (NO_BLUE, ALL_COLOURS)]
    assert sizes[0] < sizes[1]
    export(data, PARAMS.model_copy(update={"maximum_megabytes": sizes[0]}))
    assert (champion(client).run_id, decisions(client)) == (small, {1: "kept-champion", 2: "promoted"})


def test_on_earlier_data_its_model_becomes_champion_again(client, models, data, tmp_path):
    first = add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    other = write_splits(tmp_path / "other", [5, 5, 5], archive_sha256="00" * 32)
    add_run(client, models[NO_BLUE], other, 0.66)
    export(other)
    export(data)
    assert champion(client).run_id == first
    assert decisions(client) == {1: "promoted", 2: "promoted"}


def test_a_version_registered_by_hand_is_refused(client, models, data, tmp_path):
    run_id = add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    version = client.create_model_version(REGISTERED_NAME, f"runs:/{run_id}/by_hand", run_id, tags=tags_of(data))
    client.set_registered_model_alias(REGISTERED_NAME, "champion", version.version)
    with pytest.raises(PipelineError, match=r"version 2 of .* was not registered by this `make export`"):
        export(data)


@pytest.mark.parametrize("number", ["7", ""])
def test_a_rollback_to_a_missing_version_is_refused(client, models, data, number, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    with pytest.raises(PipelineError, match=rf"no version '{number}' of .*; versions: 1 \(promoted\)"):
        rollback(number, tmp_path / "dist")


def test_a_later_export_of_the_champions_run_does_not_change_its_bundle(client, models, data, tmp_path):
    """dvc repro with another opset overwrites the run's ONNX file; the registered version keeps its own."""
    run_id = add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    client.log_artifact(run_id, models[NO_BLUE])
    client.set_tag(run_id, "onnx_sha256", sha256_of(models[NO_BLUE]))
    export(data)
    assert int(champion(client).version) == 1
    assert sha256_of(tmp_path / f"dist/{REGISTERED_NAME}-v1/model.onnx") == sha256_of(models[ALL_COLOURS])


def test_a_changed_version_is_refused(client, models, data, tmp_path):
    run_id = add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    (registered,) = tmp_path.rglob(f"mlartifacts/{run_id}/artifacts/onnx_model_*/model.onnx")
    registered.write_bytes(models[NO_BLUE].read_bytes())
    with pytest.raises(PipelineError, match=f"the files of version 1 of {REGISTERED_NAME} were changed"):
        export(data)


def test_a_changed_artifact_is_refused(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0, onnx_sha256="00" * 32)
    with pytest.raises(
        PipelineError, match=r"the files of MLflow run .* were changed.*dvc repro --force --single-item evaluate export"
    ):
        export(data)
    assert not list(tmp_path.glob("dist/*"))


# What makes a run unusable: content of model.onnx, tags (None removes one), metrics, other files; and the reason
GOOD = colours()
ODD_RUNS = {
    **{name: (content, {}, {}, {}, reason) for name, (content, reason) in (HOSTILE | STRICT).items()},
    "a missing hash": (GOOD, {"onnx_sha256": None}, {}, {}, "it has no tag or metric onnx_sha256"),
    "another hash": (GOOD, {"onnx_sha256": "00" * 32}, {}, {}, "were changed: their SHA-256 is"),
    "a hash that is none": (GOOD, {"model_sha256": "x\x1b[2J"}, {}, {}, r"its model_sha256 is x\\x1b\[2J, which"),
    "no network and no data": (GOOD, {"model": None, "data": None}, {}, {}, "it has no tag or metric data, model"),
    "a long name of the network": (GOOD, {"model": "m" * 300}, {}, {}, f"its model is {'m' * 100} ..., which export"),
    "a line break in the data": (GOOD, {"data": "a\nb"}, {}, {}, r"its data is a\\nb, which export does not write"),
    "a control character in a commit": (GOOD, {"git_commit": "\x1b"}, {}, {}, r"its git_commit is \\x1b, which"),
    "stages that are not JSON": (GOOD, {"dvc.train": "{"}, {}, {}, "its dvc.train is {, which"),
    "stages that are a list": (GOOD, {"dvc.train": "[]"}, {}, {}, r"its dvc.train is \[\], which"),
    "stages nested too deep": (GOOD, {"dvc.train": "[" * 4000}, {}, {}, r"its dvc.train is \[+ \.\.\., which"),
    "a test accuracy that is NaN": (GOOD, {}, {"test_accuracy": float("nan")}, {}, "its test_accuracy is nan, which"),
    "infinite parity": (GOOD, {}, {"parity_max_abs_difference": float("inf")}, {}, "its parity_max_abs_difference is"),
    "an infinite accuracy": (GOOD, {}, {"best_validation_accuracy": float("inf")}, {}, "best_validation_accuracy is"),
    "an accuracy above 1": (GOOD, {}, {"best_validation_accuracy": 2.0}, {}, "its best_validation_accuracy is 2.0"),
    "an accuracy that is not reached": (
        colours(lambda model: model.graph.initializer[0].CopyFrom(colour_model(2).graph.initializer[0])),
        *({}, {}, {}),
        "its validation accuracy is 0.6667, measured on this machine, but it is recorded with 1.0000",
    ),
    "an unknown preprocessing": (
        colours_of("square, 2"),
        {},
        {},
        {},
        'its model.onnx has the preprocessing "square, 2"',
    ),
    "other images": (colours(side=48), {}, {}, {}, "its images have 48 x 48 pixels, given were"),
    "no test accuracy": (GOOD, {}, {"test_accuracy": None}, {}, "it has no tag or metric test_accuracy"),
    "a huge file": (
        GOOD,
        {},
        {},
        {"model.onnx": 200_000_001},
        "its model.onnx has 200 MB in 1 files, or more; at most",
    ),
    "a huge table": (GOOD, {}, {}, {"per_class.csv": 300_000_000}, "its per_class.csv has 300 MB in 1 files"),
    "a damaged table": (GOOD, {}, {}, {"per_class.csv": b"\xff"}, "the files of MLflow run .* are damaged"),
    "a table of other classes": (
        GOOD,
        {},
        {},
        {"per_class.csv": b"class_name\nred\ngreen\ncat\n"},
        "those of its per_class.csv are",
    ),
    "a table without classes": (GOOD, {}, {}, {"per_class.csv": b"a\n1\n"}, "are damaged or incomplete: KeyError"),
    "a table without figures": (
        *(GOOD, {}, {}, {"per_class.csv": b"class_name\nred\ngreen\nblue\n"}),
        "are damaged or incomplete: KeyError: 'precision'",
    ),
    "no confusion matrix": (GOOD, {}, {}, {"pictures/confusion_matrix.png": None}, "it has no file pictures/confusion"),
    "a folder in place of the model": (GOOD, {}, {}, {"model.onnx": "a folder"}, "it has no file model.onnx"),
}


def execute(folder, statement, *values):
    """Change the store in a way for which MLflow has no function."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute(statement, values)


def odd_run(client, name, data, folder):
    """A run of the table that claims the accuracy 1.0."""
    content, tags, metrics, files, _ = ODD_RUNS[name]
    (folder / "model.onnx").write_bytes(content)
    run_id = add_run(client, folder / "model.onnx", data, 1.0, **{"mlflow.runName": name})
    for key, value in tags.items():
        client.delete_tag(run_id, key) if value is None else client.set_tag(run_id, key, value)
    for key, value in metrics.items():
        execute(folder, "DELETE FROM latest_metrics WHERE run_uuid = ? AND key = ?", run_id, key)
        if value is not None:
            client.log_metric(run_id, key, value)
    artifacts = folder / "mlartifacts" / run_id / "artifacts"
    for path, change in files.items():
        if isinstance(change, int):
            os.truncate(artifacts / path, change)
        elif isinstance(change, bytes):
            (artifacts / path).write_bytes(change)
        else:
            (artifacts / path).unlink()
            if change:
                (artifacts / path).mkdir()
    return run_id


@pytest.fixture(scope="module")
def export_of_odd_runs(tmp_path_factory, models):
    """The lines that an export prints in a store with all runs of the table and one good run, and its champion."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(io.StringIO()) as printed:
        patched.setenv("MLFLOW_TRACKING_URI", empty_store(folder / "mlflow.db"))
        patched.chdir(folder)
        client = connect()
        data = write_splits(folder / "data", [40, 40, 40])
        runs = [odd_run(client, name, data, folder) for name in ODD_RUNS]
        good = add_run(client, models[NO_BLUE], data, 0.66)
        export(data)
        assert champion(client).run_id == good
        versions = client.search_model_versions(f"name = '{REGISTERED_NAME}'")
    assert not {version.run_id for version in versions if "decision" in version.tags} & {*runs}
    return printed.getvalue().splitlines()


@pytest.mark.parametrize("name", ODD_RUNS)
def test_an_odd_run_of_others_is_skipped_with_one_line_and_the_next_run_competes(export_of_odd_runs, name):
    (line,) = [line for line in export_of_odd_runs if f"MLflow run {name} (" in line and "is skipped: " in line]
    reason = line.split("is skipped: ")[1]
    assert re.search(ODD_RUNS[name][-1], reason)
    assert line.isprintable()
    assert len(line) < 900


def test_a_store_with_only_odd_runs_ends_with_one_message(client, data, tmp_path):
    odd_run(client, "NaN outputs", data, tmp_path)
    with pytest.raises(
        PipelineError, match=r"no run may become champion: MLflow run NaN outputs .* is skipped: its out"
    ):
        export(data)
    assert decisions(client) == {}


def test_a_run_whose_files_cannot_be_listed_is_skipped(client, models, data, tmp_path, capsys):
    lost = add_run(client, models[ALL_COLOURS], data, 1.0)
    execute(tmp_path, "UPDATE runs SET artifact_uri = 'nonsense://host/path' WHERE run_uuid = ?", lost)
    good = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    assert champion(client).run_id == good
    assert f"({lost}) is skipped: its files cannot be listed: " in capsys.readouterr().out


def register_odd(client, run_id, data, folder, change, **tags):
    """Register a copy of version 1 after a change of its files, as someone with access to the store could."""
    (files,) = folder.rglob(f"mlartifacts/{run_id}/artifacts/onnx_model_*")
    copy = folder / "copy"
    shutil.copytree(files, copy)
    change(copy)
    client.log_artifacts(run_id, str(copy), "copy")
    facts = client.get_model_version(REGISTERED_NAME, "1").tags
    kept = {name: value for name, value in facts.items() if not name.startswith("decision")}
    tags = kept | {"content_sha256": content_sha256(copy)} | tags
    return client.create_model_version(REGISTERED_NAME, f"runs:/{run_id}/copy", run_id, tags=tags).version


def write_facts(content):
    return lambda files: (files / "facts.json").write_text(content)


ODD_VERSIONS = {
    "facts that are not JSON": (write_facts("{"), "are damaged or incomplete: JSONDecodeError"),
    "facts that are a list": (write_facts("[]"), "are damaged or incomplete: TypeError"),
    "facts that are empty": (write_facts("{}"), "are damaged or incomplete: KeyError"),
    "facts nested too deep": (write_facts("[" * 100_000), "are damaged or incomplete: RecursionError"),
    "an unknown preprocessing": (
        lambda files: write_json(
            files / "facts.json", read_json(files / "facts.json", "") | {"preprocessing": "square, 2"}
        ),
        'its facts.json has the preprocessing "square, 2"',
    ),
    "no facts": (lambda files: (files / "facts.json").unlink(), "are damaged or incomplete: FileNotFoundError|No such"),
    "no model": (lambda files: (files / "model.onnx").unlink(), "are damaged or incomplete: "),
    "no plots": (lambda files: shutil.rmtree(files / "pictures"), "are damaged or incomplete: .*FileNotFound"),
    "a loop": (lambda files: (files / "model.onnx").write_bytes(HOSTILE["an endless loop"][0]), SUBGRAPH),
    "a junk int8 copy": (lambda files: (files / "model.int8.onnx").write_bytes(b"junk"), "Error parsing message"),
    "an int8 copy of other images": (
        lambda files: (files / "model.int8.onnx").write_bytes(colours(side=48)),
        "its model.onnx has the side 32, its model.int8.onnx 48",
    ),
    "many files": (
        lambda files: [(files / f"{number}.txt").touch() for number in range(201)],
        "in 201 files, or more; at most 200 MB in 200 files are read",
    ),
    "a huge file": (lambda files: os.truncate(files / "per_class.csv", 200_000_000), "has 200 MB in "),
}


@pytest.mark.parametrize("name", ODD_VERSIONS)
def test_an_odd_version_ends_neither_export_nor_rollback_with_a_traceback(client, models, data, tmp_path, capsys, name):
    change, reason = ODD_VERSIONS[name]
    run_id = add_run(client, models[ALL_COLOURS], data, 1.0)
    export(data)
    number = register_odd(client, run_id, data, tmp_path, change)
    before = content(tmp_path / "dist")
    with pytest.raises(PipelineError, match=rf"version 2 of .* cannot be used: .*({reason}).*another version"):
        rollback(str(number), tmp_path / "dist")
    assert (int(champion(client).version), decisions(client)) == (1, {1: "promoted", 2: None})
    client.set_registered_model_alias(REGISTERED_NAME, "champion", number)
    add_run(client, models[NO_BLUE], data, 0.66)
    with pytest.raises(
        PipelineError, match=rf"version 2 of .* cannot be used: .*({reason}).*Remove its alias champion"
    ):
        export(data)
    assert content(tmp_path / "dist") == before
    client.delete_registered_model_alias(REGISTERED_NAME, "champion")
    export(data)  # version 1 again, or it: what it claims is measured
    assert int(champion(client).version) == 1


def test_a_recorded_promotion_is_not_trusted(client, models, data, tmp_path, capsys):
    """Tags of others cannot promote a model that was not compared."""
    run_id = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    worse = add_run(client, models[NO_GREEN], data, 0.67)
    tags = {"onnx_sha256": sha256_of(models[NO_GREEN]), "decision": "promoted", "decision.by": "comparison"}
    tags |= {"decision.against": "1", "decision.limits": PARAMS.limits(), "decision.reason": "\x1b[2J"}
    register_odd(
        client, run_id, data, tmp_path, lambda files: shutil.copy(models[NO_GREEN], files / "model.onnx"), **tags
    )
    export(data)
    assert (champion(client).run_id, worse != run_id) == (run_id, True)
    assert "\x1b" not in capsys.readouterr().out


def command(data, folder, **environment):
    """`make export` in `folder`, whose params.yaml is the project's."""
    paths = [data["verdict"], data["train"], data["validation"], "dist"]
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return run(folder, "pipeline.promote", *paths, PYTHONPATH=str(ROOT), **environment)


def test_the_command_prints_what_it_does_and_nothing_else(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0, **{"mlflow.runName": "a run"})
    done = command(data, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "promote: measuring the model of MLflow run a run",
        f"promote: version 1 of {REGISTERED_NAME}: promoted, there is no champion on this data to compare with",
        f"promote: dist/{REGISTERED_NAME}-v1, validation accuracy 1.0000, test accuracy 0.5000",
    ]


def test_a_dist_that_cannot_be_written_is_not_reported_as_a_failure_of_the_store(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    (tmp_path / "dist").write_text("a file where a folder should be")
    done = command(data, tmp_path)
    assert done.returncode == 1
    assert "MLflow store" not in done.stderr
    assert "dist" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_store_is_reported(data, tmp_path):
    done = command(data, tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "cannot record in the MLflow store http://127.0.0.1:9" in done.stderr


def test_without_a_run_it_says_what_to_do(client, data, tmp_path):
    done = command(data, tmp_path)
    assert done.returncode == 1
    assert "has no finished run with an exported model on the current data" in done.stderr
    assert done.stderr.startswith("promote: ")
    assert "make repro" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_current_results_it_says_what_to_do(tmp_path):
    nothing = dict.fromkeys(("verdict", "train", "validation"), tmp_path / "none")
    done = command(nothing, tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "there are no results here yet. Run `make repro`" in done.stderr


def test_two_exports_on_one_store_register_a_model_once(client, models, data, monkeypatch):
    """The export of another clone registers the same run after this one has looked for its version."""
    add_run(client, models[ALL_COLOURS], data, 1.0)

    def register_twice(*arguments):
        register(*arguments)
        return register(*arguments)

    register = store.register
    monkeypatch.setattr(store, "register", register_twice)
    export(data)
    assert decisions(client) == {1: "promoted"}
    assert int(champion(client).version) == 1


def test_an_unusable_version_of_others_does_not_replace_the_one_that_is_registered(client, models, data, tmp_path):
    run_id = add_run(client, models[NO_BLUE], data, 0.66)
    export(data)
    good = add_run(client, models[ALL_COLOURS], data, 1.0)
    hashes = {"onnx_sha256": sha256_of(models[ALL_COLOURS])}
    register_odd(client, run_id, data, tmp_path, write_facts("{"), **hashes)
    export(data)
    assert (champion(client).run_id, decisions(client)) == (good, {1: "promoted", 2: None, 3: "promoted"})


def test_a_second_export_in_a_clone_waits(client, models, data, tmp_path):
    add_run(client, models[ALL_COLOURS], data, 1.0)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / ".dvc").mkdir()
    words = [sys.executable, "-m", "pipeline.promote", data["verdict"], data["train"], data["validation"], "dist"]
    with exclusive("export"):
        second = subprocess.Popen(
            words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr.readline() == "export: waiting for another process in this clone to finish\n"
        assert not (tmp_path / "dist").exists()
    out, err = second.communicate()
    assert (second.returncode, err) == (0, "")
    assert "promoted" in out
