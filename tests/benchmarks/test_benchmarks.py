import json
import shutil
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
from projects import ROOT

from benchmarks import engines
from benchmarks.ablation import ablation_table, measure_ablation
from benchmarks.flops import training_flops
from benchmarks.inference import inference_text
from benchmarks.measure import measure
from benchmarks.readme import resnet20_text
from benchmarks.rows import PROGRAMS, Rows, code_hash
from benchmarks.run import lay_out, network_names, run_stages
from benchmarks.training_report import (
    RESNET20,
    TEXTBOOK,
    TORCH,
    by_network,
    draw,
    seconds_to,
    short_table,
    torch_modes,
    torch_sentence,
    training_table,
)
from benchmarks.variants import CHANGES, MEASURED, OVERRIDES, VARIANTS, fast_variant
from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of
from pipeline.common.params import read_params
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.onnx.convert import to_onnx
from pipeline.registry.quantize import quantize

CURVE = [{"seconds": 10.0, "accuracy": 0.4}, {"seconds": 20.0, "accuracy": 0.6}, {"seconds": 30.0, "accuracy": 0.5}]


def test_a_command_is_measured_with_its_children(tmp_path):
    child = "import time; data = bytearray(300_000_000); time.sleep(0.5); print('hello')"
    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    measured = measure(command, tmp_path)
    assert measured.output == "hello\n"
    assert measured.seconds > 0.5
    assert 300 < measured.megabytes < 600


def test_a_command_that_fails_is_reported_with_its_output(tmp_path):
    with pytest.raises(PipelineError, match=r"(?s)failed:.*no such thing"):
        measure("echo no such thing; exit 3", tmp_path)


def test_the_textbook_script_runs_on_any_archive(archive):
    printed = measure([sys.executable, "-m", "benchmarks.brief", str(archive), "1"], ROOT).output
    figures = json.loads(printed.splitlines()[-1])
    assert figures["training_flops"] == training_flops(start_keras() and NETWORKS["basic"].build(10, 32))
    assert figures["curve"][0]["accuracy"] == figures["accuracy"]


def test_operations_of_convolutions_and_dense_layers_are_counted():
    keras = start_keras()
    layers = keras.layers
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(10)])
    first, last = 2 * 6 * 6 * 3 * 3 * 3 * 4, 2 * 144 * 10
    assert training_flops(model) == 2 * first + 3 * last
    model.layers[0].kernel.trainable = False
    assert training_flops(model) == first + 3 * last  # its bias is trained
    model.layers[0].trainable = False
    assert training_flops(model) == first + 2 * last


def test_a_training_is_evaluated_on_the_test_split_only_if_it_is_given(splits):
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
    assert len(finished["curve"]) == finished["epochs"] == 2
    assert finished["accuracy"] in [point["accuracy"] for point in finished["curve"]]
    assert 0 < finished["curve"][0]["seconds"] < finished["curve"][1]["seconds"] <= finished["seconds"]
    assert finished["images_per_second"] == pytest.approx(800 / finished["seconds"])
    assert finished["precision"] in finished["matmul_peaks"]
    assert min(finished["matmul_peaks"].values()) > 1e9
    splits["test"].unlink()
    without_test = json.loads(measure(base, ROOT).output.splitlines()[-1])
    assert without_test["validation_accuracy"] == finished["validation_accuracy"]
    assert not {"accuracy", "curve"} & without_test.keys()


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


def test_rows_of_another_machine_are_removed_and_rows_of_older_code_stay_until_they_are_measured_again(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    path = tmp_path / "rows.json"
    for name in ("one", "two"):
        Rows(path, {"machine": "a"}).measure(name, lambda: {"seconds": 1})
    saved = json.loads(path.read_text())
    saved["one"]["conditions"]["code"] = "before"
    path.write_text(json.dumps(saved))
    Rows(path, {"machine": "a"}).measure("three", lambda: {"seconds": 3})
    assert Rows(path, {}).read().keys() == {"one", "two", "three"}
    Rows(path, {"machine": "a"}).measure("one", lambda: {"seconds": 4})
    assert Rows(path, {}).read()["one"]["seconds"] == 4
    Rows(path, {"machine": "b"}).measure("two", lambda: {"seconds": 5})
    assert {name: row["seconds"] for name, row in Rows(path, {}).read().items()} == {"two": 5}


def test_rows_are_valid_for_the_code_that_their_programs_import(tmp_path, monkeypatch):
    for folder in ("benchmarks", "pipeline"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    before = code_hash()
    for file, is_imported in {
        "benchmarks/drift.py": False,
        "benchmarks/training_report.py": False,
        "pipeline/evaluate.py": False,
        **{str(program): True for program in PROGRAMS},
        "benchmarks/variants.py": True,
        "pipeline/models/muon.py": True,
        "pipeline/training/fit.py": True,
    }.items():
        with (tmp_path / file).open("a") as code:
            code.write("# changed\n")
        assert (code_hash() != before) == is_imported, file
        before = code_hash()


def test_the_time_to_an_accuracy_is_the_end_of_the_first_epoch_that_reaches_it():
    assert [seconds_to(accuracy, CURVE) for accuracy in (0.4, 0.5, 0.61)] == [10, 20, float("inf")]


def rows():
    common = {"conditions": {"data": "generated"}, "curve": CURVE, "epochs": 3, "megabytes": 100.4}
    common |= {"training_flops": 10**9}
    ours = {"precision": "bfloat16", "matmul_peaks": {"float32": 1e12, "bfloat16": 2e12}}
    named = {f"fast, seed {seed}": common | ours for seed in range(3)}
    named[f"{TEXTBOOK}, seed 0"] = common | {"precision": "float32"}
    figures = {"seconds": 30.0, "images_per_second": 100.0}
    return {name: row | figures | {"accuracy": 0.5 + 0.01 * place} for place, (name, row) in enumerate(named.items())}


def rows_with_peers():
    measured = rows()
    measured[f"{RESNET20}, seed 0"] = measured[f"{TEXTBOOK}, seed 0"] | {
        "epochs": 1,
        "curve": CURVE[:1],
        "accuracy": 0.4,
    }
    measured["accurate, seed 0"] = measured["fast, seed 0"] | {"images_per_second": 90.0, "accuracy": 0.9}
    measured["accurate, seed 0"]["epochs"] = 6  # its curve has every second one
    speeds = {"eager, float32": 50.0, "compile, float32": 40.0, "eager, bfloat16": 75.0, "compile, bfloat16": 60.0}
    common = {"conditions": {"data": "generated"}, "megabytes": 900.0}
    measured[TORCH] = common | {"images_per_second": speeds, "training_flops": 10**10, "torch": "2.9.0"}
    return measured


def test_the_training_table_shows_means_ranges_and_peers():
    measured = rows_with_peers()
    measured["fast, seed 2"]["accuracy"] = 0.54
    lines = training_table(by_network(measured), torch_modes(measured)).splitlines()
    assert lines[2:] == [
        "| the textbook script | 3 | 30 | 100 | 20 | 53.00% | 100 | 10% (float32) |",
        "| ResNet20v1 of Keras' example | 1 | 30 | 100 | not reached | 40.00% | 100 | 10% (float32) |",
        "| `fast` | 3 | 30 | 100 | 20 | 51.67% (50.00% to 54.00% with 3 seeds) | 100 | 5% (bfloat16) |",
        "| `accurate` | 6 | 30 | 90 | 20 | 90.00% | 100 | 4% (bfloat16) |",
        "| `accurate` in PyTorch, eager, float32 | - | - | 50 | - | - | - | 50% (float32) |",
        "| `accurate` in PyTorch, compile, float32 | - | - | 40 | - | - | - | 40% (float32) |",
        "| `accurate` in PyTorch, eager, bfloat16 | - | - | 75 | - | - | - | 38% (bfloat16) |",
        "| `accurate` in PyTorch, compile, bfloat16 | - | - | 60 | - | - | - | 30% (bfloat16) |",
    ]
    assert "seconds to 53.0% test accuracy" in lines[0]


def test_networks_in_float32_follow_the_others():
    measured = rows()
    measured["fast in float32, seed 0"] = measured["fast, seed 0"] | {"precision": "float32"}
    lines = training_table(by_network(measured), {}).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| the textbook script", "| `fast`", "| `fast` in float32"]
    assert lines[-1].endswith("10% (float32) |")


def test_the_network_is_compared_with_the_fastest_mode_of_pytorch():
    measured = rows_with_peers()
    sentence = torch_sentence(by_network(measured), torch_modes(measured))
    assert sentence.startswith(
        "`accurate` trains at 90 images/s, 1.20 times PyTorch's fastest mode (eager, bfloat16). PyTorch 2.9.0 "
    )
    assert torch_sentence(by_network(measured), {}) == ""
    assert torch_sentence(by_network(rows()), torch_modes(measured)) == ""


def test_without_peers_the_table_has_only_networks():
    assert torch_modes(rows()) == {}
    assert len(training_table(by_network(rows()), {}).splitlines()) == 4


def test_the_text_names_resnet20_only_beside_its_row():
    assert "`benchmarks/resnet20.py`" in resnet20_text(by_network(rows_with_peers()))
    assert resnet20_text(by_network(rows())) == ""


def test_the_short_table_shows_the_networks():
    measured = rows_with_peers()
    measured["fast in float32, seed 0"] = measured["fast, seed 0"]
    lines = short_table(by_network(measured)).splitlines()
    assert lines == [
        "| network | training, seconds | seconds to 53.0% test accuracy | test accuracy |",
        "|---|---|---|---|",
        "| the textbook script | 30 | 20 | 53.00% |",
        "| `fast` | 30 | 20 | 51.00% |",
        "| `accurate` | 30 | 20 | 90.00% |",
    ]


def test_the_plot_is_drawn(tmp_path):
    from PIL import Image

    measured = rows_with_peers()
    measured["fast in float32, seed 0"] = measured["fast, seed 0"]
    draw(by_network(measured), {"data": "generated", "machine": "2 cores"}, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_the_default_variant_of_fast_is_fast():
    start_keras()
    ours, theirs = NETWORKS["fast"].build(10, 32), fast_variant(10, 32)
    assert [weight.shape for weight in ours.weights] == [weight.shape for weight in theirs.weights]
    theirs.set_weights(ours.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(ours.predict(images, verbose=0), theirs.predict(images, verbose=0))


@pytest.mark.parametrize("name", CHANGES)
def test_every_variant_can_be_built_and_differs_from_fast(name):
    assert described(VARIANTS[name]) != described(NETWORKS["fast"]) or name in OVERRIDES
    assert VARIANTS[name].build(10, 32).output.shape == (None, 10)


def described(network):
    """All that a network's building and training depend on, without the layers' numbered names."""
    keras = start_keras()
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model, optimizer = network.build(10, 32), network.optimizer(0.1, 100)
    rates = optimizer._learning_rate
    schedule = [float(rates(step)) for step in (0, 50)] if callable(rates) else [float(rates)]
    weights = [weight.tobytes() for weight in model.get_weights()]
    return network[2:], model.get_config(), weights, type(optimizer), described_optimizer(optimizer), schedule


def described_optimizer(optimizer):
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, bool | int | float)}


def test_overrides_name_attributes_of_modules_of_the_training():
    start_keras()
    for changes in OVERRIDES.values():
        for place in changes:
            module, name = place.split(".")
            assert hasattr(import_module(f"pipeline.training.{module}"), name)


def test_a_network_is_measured_in_float32(splits):
    command = [sys.executable, "-m", "benchmarks.train_one", "basic in float32", "0", "1", *map(str, splits.values())]
    figures = json.loads(measure(command, ROOT).output.splitlines()[-1])
    assert figures["precision"] == "float32"
    assert list(figures["matmul_peaks"]) == ["float32"]


def ablation_rows():
    common = {"conditions": {"data": "generated", "machine": "2 cores"}, "validation_loss": 0.5}
    values = {
        "fast, seed 0": (0.80, 40),
        "fast, seed 1": (0.82, 44),
        "SiLU, seed 0": (0.81, 80),
        "SiLU, seed 1": (0.84, 88),
    }
    values["average pooling, seed 0"] = (0.7, 60)
    return {
        name: common | {"validation_accuracy": accuracy, "seconds": seconds}
        for name, (accuracy, seconds) in values.items()
    }


def test_the_ablation_table_compares_equal_seeds():
    assert ablation_table({}) == ""
    assert ablation_table(ablation_rows()).splitlines()[4:] == [
        "| none | 81.00% | | 0.500 | 42 s | 2 |",
        "| average pooling | 70.00% | -10.00 | 0.500 | 1.50 x | 1 |",
        "| SiLU | 82.50% | +1.50 | 0.500 | 2.00 x | 2 |",
    ]


def test_only_changes_with_a_small_effect_are_measured_with_more_seeds(monkeypatch):
    measured, accuracies = [], ablation_rows() | {"no shifts, seed 0": {"validation_accuracy": 0.809}}

    class Known:
        def read(self):
            return (
                dict.fromkeys([f"{name}, seed 0" for name in CHANGES], accuracies["average pooling, seed 0"])
                | accuracies
            )

        def measure(self, name, how):
            measured.append(name)

    measure_ablation(Known(), ["train", "validation"], seeds=2)
    assert [name for name in measured if name.endswith("seed 0")] == [f"{name}, seed 0" for name in ("fast", *CHANGES)]
    assert [name for name in measured if name.endswith("seed 1")] == ["fast, seed 1", "no shifts, seed 1"]


def test_the_project_is_laid_out_with_the_archive_as_its_only_source(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lay_out(tmp_path / "project", archive, "some images") == "some images"
    assert (tmp_path / "project/.dvcignore").read_bytes() == (ROOT / ".dvcignore").read_bytes()
    params = read_params(tmp_path / "project/params.yaml")
    assert params["download"]["urls"] == [archive.as_uri()]
    assert params["train"] == read_params()["train"]
    run_stages(tmp_path / "project", ["download"])
    assert sha256_of(tmp_path / "project/data/raw/cifar-10-python.tar.gz") == sha256_of(archive)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--section", "speed"), "invalid choice: 'speed'"),
        (("--seeds", "0"), "invalid choice: 0"),
        (
            ("--networks", "fast,slow"),
            f"no network 'slow', expected names from {', '.join(MEASURED)}, separated by commas",
        ),
    ],
)
def test_an_unknown_section_or_network_and_a_wrong_number_of_seeds_are_refused(arguments, message):
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr


def test_networks_are_separated_by_commas():
    assert network_names("accurate,basic in float32") == ["accurate", "basic in float32"]


@pytest.fixture(scope="module")
def engine_files(tmp_path_factory):
    """The files that the engines read, of an untrained network."""
    folder = tmp_path_factory.mktemp("engines")
    files = {"keras": folder / "model.keras", "onnx": folder / "model.onnx", "int8": folder / "int8.onnx"}
    start_keras()
    network = NETWORKS["basic"].build(3, 32)
    network.save(files["keras"])
    files["onnx"].write_bytes(to_onnx(network, 14, ["a", "b", "c"], {}).SerializeToString())
    quantize(files["onnx"], files["int8"], engines.images(64))
    return files


@pytest.mark.parametrize("name", engines.ENGINES)
def test_the_engines_give_equal_probabilities(engine_files, name):
    if name not in engines.installed_engines():
        pytest.skip("OpenVINO is not installed: `pip install '.[openvino]'` adds it")
    answer = engines.start_engine(name, engine_files)(engines.images(3))
    expected = engines.start_engine("ONNX Runtime", engine_files)(engines.images(3))
    tolerances = {"ONNX Runtime, int8": 0.05, "OpenVINO, int8": 0.05, "OpenVINO, its default precision": 0.01}
    np.testing.assert_allclose(answer, expected, atol=tolerances.get(name, 1e-6))


def test_an_engine_can_be_started_alone(engine_files):
    files = map(str, engine_files.values())
    command = [sys.executable, "-m", "benchmarks.engines", *files, "--only", "ONNX Runtime, int8"]
    assert measure(command, ROOT).output == ""


def test_without_openvino_the_other_engines_are_measured(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert engines.installed_engines() == ["Keras predict", "tf.function", "ONNX Runtime", "ONNX Runtime, int8"]


def test_the_inference_table_shows_every_engine_and_the_ratios():
    def row(milliseconds):
        each = {"p50_ms": milliseconds, "p99_ms": 2 * milliseconds, "images_per_second": round(64_000 / milliseconds)}
        return {"batches": {"1": each, "64": each}, "start_seconds": 1.5, "megabytes": 100}

    milliseconds = {
        "Keras predict": 50.0,
        "tf.function": 2.0,
        "ONNX Runtime": 0.25,
        "ONNX Runtime, int8": 0.2,
        "OpenVINO, int8": 0.1,
    }
    text = inference_text(
        {
            "network": "fast",
            "data": "generated images",
            "date": "2026-01-01",
            "machine": "a machine",
            "engines": {name: row(each) for name, each in milliseconds.items()},
            "bytes": dict.fromkeys(milliseconds, 1_500_000),
            "int8": {"reason": "it is slow"},
            "export_seconds": 30.0,
            "predict_seconds": 0.5,
        }
    )
    assert "| ONNX Runtime | 0.25 / 0.50, 256,000 | 0.25 / 0.50, 256,000 | 1.5 | 100 | 1.50 |" in text
    assert (
        "8.0 times as fast as `tf.function` and 200 times as fast as `predict`; for 64 images it is 200.0 times" in text
    )
    assert "with int8 1.2 times as fast as in float, and OpenVINO, int8 is 2.0 times as fast as that." in text
    assert inference_text({}) == ""
