import json

import numpy as np
import pytest
from PIL import Image
from projects import ROOT, approve, run
from toy_models import COLOURS, paint, write_colour_model

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.data.splits import SPLIT_NAMES, read_split, write_split
from pipeline.evaluation.metrics import wilson_interval
from pipeline.evidence.corruptions import CORRUPTIONS
from pipeline.robustness import RobustnessParams, evenly, robustness, summarize

PARAMS = RobustnessParams(images=None, seed=0)
IMAGES = 600  # more than one block
OUTPUTS = {
    "table": "robustness.csv",
    "metrics": "robustness.json",
    "headline": "headline.json",
    "plot": "robustness.png",
    "examples": "corruptions.png",
}


@pytest.fixture
def inputs(tmp_path):
    """A model, a test split of more than one block with 10 % incorrect labels, and its validate.json."""
    test = tmp_path / "test.npz"
    write_split(test, paint(IMAGES, wrong=range(0, IMAGES, 10)))
    verdict = approve(tmp_path / "validate.json", dict.fromkeys(SPLIT_NAMES, test))
    return {"onnx_model": write_colour_model(tmp_path / "model.onnx"), "test_split": test, "verdict": verdict}


def outputs(folder):
    return {name: folder / file for name, file in OUTPUTS.items()}


def test_every_image_is_evaluated_clean_and_under_every_corruption_and_severity(inputs, tmp_path, capsys):
    out = outputs(tmp_path / "out")
    robustness(PARAMS, **inputs, **out)
    rows = read_csv(out["table"])
    assert list(rows[0]) == ["corruption", "strength", "accuracy", "accuracy_low", "accuracy_high"]
    assert [(row["corruption"], row["strength"]) for row in rows] == [
        ("none", "0"),
        *((name, str(severity)) for name in CORRUPTIONS for severity in (1, 2, 3)),
    ]
    by_name = {(row["corruption"], int(row["strength"])): float(row["accuracy"]) for row in rows}
    assert by_name["none", 0] == by_name["brightness", 3] == by_name["shift", 3] == 0.9  # the model uses only the mean
    figures = json.loads(out["metrics"].read_text())
    assert (figures["accuracy"], figures["images"]) == (0.9, IMAGES)
    assert figures["worst_corruption_accuracy"] <= figures["corrupted_accuracy"] <= figures["accuracy"]
    assert all(type(value) in (int, float) for value in figures.values())
    assert json.loads(out["headline"].read_text()) == {"corrupted_accuracy": figures["corrupted_accuracy"]}
    assert all(Image.open(out[name]).size[0] > 700 for name in ("plot", "examples"))
    printed = capsys.readouterr().out
    assert all(f"robustness: {name} " in printed for name in CORRUPTIONS)


def test_a_model_of_another_side_with_many_classes_is_evaluated(tmp_path):
    names = np.array(COLOURS + [f"class {i}" for i in range(400)])
    split = paint(120, wrong=range(0, 120, 10), side=48)
    write_split(tmp_path / "test.npz", split._replace(labels=split.labels.astype(np.uint16), class_names=names))
    verdict = approve(tmp_path / "validate.json", dict.fromkeys(SPLIT_NAMES, tmp_path / "test.npz"))
    model = write_colour_model(tmp_path / "model.onnx", class_names=names.tolist(), side=48)
    out = outputs(tmp_path / "out")
    robustness(PARAMS, onnx_model=model, test_split=tmp_path / "test.npz", verdict=verdict, **out)
    assert json.loads(out["metrics"].read_text())["accuracy"] == 0.9
    assert len(read_csv(out["table"])) == 1 + 3 * len(CORRUPTIONS)
    assert Image.open(out["examples"]).size[0] > 700


def test_two_runs_give_the_same_bytes_and_another_seed_gives_other_results(inputs, tmp_path):
    almost_grey = np.random.default_rng(0).integers(0, 255, (200, 32, 32, 3), np.uint8)  # a little noise decides
    write_split(inputs["test_split"], paint(200)._replace(images=almost_grey))
    approve(inputs["verdict"], dict.fromkeys(SPLIT_NAMES, inputs["test_split"]))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        robustness(PARAMS.model_copy(update={"seed": seed}), **inputs, **outputs(tmp_path / name))
    first, second, third = (
        [path.read_bytes() for path in outputs(tmp_path / name).values()] for name in ("a", "b", "c")
    )
    assert first == second
    assert all(one != other for one, other in zip(first, third, strict=True))


def test_figures_of_a_hand_made_case():
    clean = wilson_interval("accuracy", 8, 10)
    assert clean == {
        "accuracy": 0.8,
        # Wilson, by hand: (8 + z²/2 ± z sqrt(8 · 2 / 10 + z²/4)) / (10 + z²), z = 1.959964
        "accuracy_low": pytest.approx(0.490162, abs=1e-5),
        "accuracy_high": pytest.approx(0.943318, abs=1e-5),
    }
    half, quarter = wilson_interval("accuracy", 2, 4), wilson_interval("accuracy", 1, 4)
    by_corruption = {name: [half] * 3 for name in CORRUPTIONS} | {"fog": [quarter] * 3}
    figures = summarize(clean, by_corruption)
    assert figures["accuracy"] == 0.8
    assert figures["corrupted_accuracy"] == pytest.approx((9 * 0.5 + 0.25) / 10)
    assert figures["worst_corruption_accuracy"] == figures["accuracy_fog"] == 0.25
    assert figures["kept_share"] == pytest.approx(0.475 / 0.8)


def test_a_model_that_is_never_correct_keeps_nothing():
    never = wilson_interval("accuracy", 0, 4)
    assert summarize(never, {name: [never] * 3 for name in CORRUPTIONS})["kept_share"] == 0


def test_fewer_images_are_evenly_spaced(inputs):
    split = read_split(inputs["test_split"])
    assert evenly(split, 3).archive_index.tolist() == [0, 299, 599]
    assert evenly(split, 1000) is split
    assert evenly(split, None) is split


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"class_names": ["cat", "dog", "frog"]},
            r'its class_names is \["cat", "dog", "frog"\], that of the splits is \["red"',
        ),
        ({"archive_sha256": "cd" * 32}, r"its archive_sha256 is cdcd.*, that of the splits is abab.*dvc repro"),
    ],
)
def test_a_model_of_other_data_is_refused(inputs, tmp_path, facts, message):
    write_colour_model(inputs["onnx_model"], **facts)
    with pytest.raises(PipelineError, match=message):
        robustness(PARAMS, **inputs, **outputs(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_split_that_was_not_validated_is_refused(inputs, tmp_path):
    write_split(inputs["test_split"], paint(20))
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        robustness(PARAMS, **inputs, **outputs(tmp_path / "out"))


def test_a_model_that_cannot_be_read_gives_one_message(inputs, tmp_path):
    inputs["onnx_model"].write_bytes(b"no model")
    with pytest.raises(PipelineError, match=r"cannot read the ONNX model .*model.onnx.*dvc repro"):
        robustness(PARAMS, **inputs, **outputs(tmp_path / "out"))


def test_the_command_refuses_a_wrong_setting_by_name(tmp_path):
    (tmp_path / "params.yaml").write_text("robustness: {images: 0, seed: 0}\n")
    done = run(tmp_path, "pipeline.robustness", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "robustness.images is 0, but it should be greater than 0" in done.stderr
