import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from benchmarks.flops import training_flops
from benchmarks.measure import machine, measure
from benchmarks.rows import Rows
from benchmarks.training_report import TEXTBOOK, by_network, draw, seconds_to, training_table
from benchmarks.variants import CHANGES, VARIANTS, built_otherwise
from pipeline.errors import PipelineError
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS

CURVE = [{"seconds": 10.0, "accuracy": 0.4}, {"seconds": 20.0, "accuracy": 0.6}, {"seconds": 30.0, "accuracy": 0.5}]


def test_a_command_is_measured_with_its_children(tmp_path):
    child = "import time; data = bytearray(300_000_000); time.sleep(0.5); print('hello')"
    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    measured = measure(command, tmp_path)
    assert measured.output == "hello\n"
    assert measured.seconds > 0.5
    assert 300 < measured.megabytes < 600


def test_a_command_that_fails_is_told(tmp_path):
    with pytest.raises(PipelineError, match=r"(?s)failed:.*no such thing"):
        measure("echo no such thing; exit 3", tmp_path)


def test_the_machine_is_named():
    assert " cores, " in machine()


def test_the_textbook_script_runs_on_any_archive(archive):
    printed = measure([sys.executable, "-m", "benchmarks.brief", str(archive), "1"], ROOT).output
    figures = json.loads(printed.splitlines()[-1])
    assert figures["training_flops"] == training_flops(start_keras() and NETWORKS["basic"].build(10))
    assert figures["curve"][0]["accuracy"] == figures["accuracy"]


def test_operations_are_those_of_convolutions_and_dense_layers():
    keras = start_keras()
    layers = keras.layers
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(10)])
    first, last = 2 * 6 * 6 * 3 * 3 * 3 * 4, 2 * 144 * 10
    assert training_flops(model) == 2 * first + 3 * last


def test_a_training_is_measured_and_scored_on_the_test_split_only_where_asked(splits):
    base = [
        sys.executable,
        "-m",
        "benchmarks.train_one",
        "basic",
        "0",
        "2",
        str(splits["train"]),
        str(splits["validation"]),
    ]
    finished = json.loads(measure([*base, str(splits["test"])], ROOT).output.splitlines()[-1])
    assert len(finished["curve"]) == 2
    assert finished["accuracy"] in [point["accuracy"] for point in finished["curve"]]
    assert 0 < finished["curve"][0]["seconds"] < finished["curve"][1]["seconds"] <= finished["seconds"]
    assert finished["images_per_second"] == pytest.approx(800 / finished["seconds"])
    assert finished["precision"] in finished["matmul_peaks"]
    assert min(finished["matmul_peaks"].values()) > 1e9
    splits["test"].unlink()
    tried = json.loads(measure(base, ROOT).output.splitlines()[-1])
    assert tried["validation_accuracy"] == finished["validation_accuracy"]
    assert not {"accuracy", "curve"} & tried.keys()


def test_rows_are_saved_one_by_one_and_not_measured_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    path, measured = tmp_path / "rows.json", []

    def row():
        measured.append(1)
        return {"seconds": len(measured)}

    def cut():
        raise KeyboardInterrupt

    Rows(path, {"machine": "a"}).measure("one", row)
    with pytest.raises(KeyboardInterrupt):
        Rows(path, {"machine": "a"}).measure("two", cut)
    Rows(path, {"machine": "a"}).measure("one", row)
    Rows(path, {"machine": "a"}).measure("two", row)
    assert {name: found["seconds"] for name, found in json.loads(path.read_text()).items()} == {"one": 1, "two": 2}
    Rows(path, {"machine": "b"}).measure("one", row)
    assert Rows(path, {}).read()["one"]["seconds"] == 3


def test_the_time_to_an_accuracy_is_the_end_of_the_first_epoch_that_has_it():
    assert [seconds_to(accuracy, CURVE) for accuracy in (0.4, 0.5, 0.61)] == [10, 20, float("inf")]


def rows():
    common = {"conditions": {"data": "generated"}, "curve": CURVE, "megabytes": 100.4, "training_flops": 10**9}
    ours = {"precision": "bfloat16", "matmul_peaks": {"float32": 1e12, "bfloat16": 2e12}}
    named = {f"fast, seed {seed}": common | ours for seed in range(3)}
    named[f"{TEXTBOOK}, seed 0"] = common | {"precision": "float32"}
    figures = {"seconds": 30.0, "images_per_second": 100.0}
    return {name: row | figures | {"accuracy": 0.5 + 0.01 * place} for place, (name, row) in enumerate(named.items())}


def test_the_training_table_shows_medians_and_ranges():
    lines = training_table(by_network(rows())).splitlines()
    assert lines[2:] == [
        "| the textbook script | 3 | 30 | 100 | 20 | 53.00% | 100 | 10% (float32) |",
        "| `fast` | 3 | 30 | 100 | 20 | 51.00% (50.00% to 52.00% with 3 seeds) | 100 | 5% (bfloat16) |",
    ]
    assert "seconds to 53.0% on test" in lines[0]


def test_the_picture_is_drawn(tmp_path):
    from PIL import Image

    draw(by_network(rows()), "generated", tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_fast_written_out_with_its_choices_is_fast():
    start_keras()
    ours, theirs = NETWORKS["fast"].build(10), built_otherwise(10)
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in theirs.weights]
    theirs.set_weights(ours.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(ours.predict(images, verbose=0), theirs.predict(images, verbose=0))


@pytest.mark.parametrize("name", CHANGES)
def test_every_variant_can_be_built_and_differs_from_fast(name):
    keras = start_keras()
    network, fast = VARIANTS[name], NETWORKS["fast"]
    assert network != fast
    try:
        assert network.build(10).output.shape == (None, 10)
        assert network.optimizer(0.1, 100).learning_rate is not None
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_section_that_does_not_exist_is_refused():
    command = [sys.executable, "-m", "benchmarks.run", "--section", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'speed'" in done.stderr
