import csv
import json

import numpy as np
import pytest
from conftest import ROOT, approve, paint, run, write_colour_model
from PIL import Image

from pipeline.corruptions import CORRUPTIONS
from pipeline.errors import PipelineError
from pipeline.robustness import BLOCK, RobustnessParams, evenly, robustness, row, summarize
from pipeline.robustness_pictures import spread
from pipeline.splits import SPLIT_NAMES, read_split, write_split

PARAMS = RobustnessParams(images=None, seed=0)
OUTPUTS = ("robustness.csv", "robustness.json", "robustness.png", "corruptions.png")


@pytest.fixture
def inputs(tmp_path):
    """Paths of a model, a test split of more than one block, and a report that approves of it."""
    test = tmp_path / "test.npz"
    write_split(test, paint(BLOCK + 100, wrong=range(0, BLOCK + 100, 10)))
    report = approve(tmp_path / "validate.json", dict.fromkeys(SPLIT_NAMES, test))
    return [write_colour_model(tmp_path / "model.onnx"), test, report]


def outputs(folder):
    return [folder / name for name in OUTPUTS]


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_image_is_scored_clean_and_under_every_corruption_and_strength(inputs, tmp_path, capsys):
    robustness(PARAMS, *inputs, *outputs(tmp_path / "out"))
    rows = rows_of(tmp_path / "out/robustness.csv")
    assert list(rows[0]) == ["corruption", "strength", "accuracy", "accuracy_low", "accuracy_high"]
    assert [(each["corruption"], each["strength"]) for each in rows] == [
        ("none", "0"),
        *((name, str(strength)) for name in CORRUPTIONS for strength in (1, 2, 3)),
    ]
    by_name = {(each["corruption"], int(each["strength"])): float(each["accuracy"]) for each in rows}
    assert by_name["none", 0] == by_name["brightness", 3] == by_name["shift", 3] == 0.9  # it looks at the mean alone
    figures = json.loads((tmp_path / "out/robustness.json").read_text())
    assert (figures["accuracy"], figures["images"]) == (0.9, BLOCK + 100)
    assert figures["worst_corruption_accuracy"] <= figures["mean_corrupted_accuracy"] <= figures["accuracy"]
    assert all(type(value) in (int, float) for value in figures.values())
    assert all(Image.open(tmp_path / "out" / name).size[0] > 700 for name in OUTPUTS[2:])
    printed = capsys.readouterr().out
    assert all(f"robustness: {name} " in printed for name in CORRUPTIONS)


def test_two_runs_give_the_same_bytes_and_another_seed_other_figures(inputs, tmp_path):
    hardly_coloured = np.random.default_rng(0).integers(0, 255, (200, 32, 32, 3), np.uint8)  # a little noise decides
    write_split(inputs[1], paint(200)._replace(images=hardly_coloured))
    approve(inputs[2], dict.fromkeys(SPLIT_NAMES, inputs[1]))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        robustness(PARAMS.model_copy(update={"seed": seed}), *inputs, *outputs(tmp_path / name))
    first, second, third = ([path.read_bytes() for path in outputs(tmp_path / name)] for name in ("a", "b", "c"))
    assert first == second
    assert all(one != other for one, other in zip(first, third, strict=True))


def test_figures_on_a_hand_made_case():
    rows = [row("none", 0, np.array([True] * 8 + [False] * 2))]
    for name in CORRUPTIONS:
        worst = [1, 0, 0, 0] if name == "fog" else [1, 1, 0, 0]
        rows += [row(name, strength, np.array(worst, bool)) for strength in (1, 2, 3)]
    assert rows[0] == {
        "corruption": "none",
        "strength": 0,
        "accuracy": 0.8,
        # Wilson, by hand: (8 + z²/2 ± z sqrt(8 · 2 / 10 + z²/4)) / (10 + z²), z = 1.959964
        "accuracy_low": pytest.approx(0.490162, abs=1e-5),
        "accuracy_high": pytest.approx(0.943318, abs=1e-5),
    }
    figures = summarize(rows)
    assert figures["accuracy"] == 0.8
    assert figures["mean_corrupted_accuracy"] == pytest.approx((9 * 0.5 + 0.25) / 10)
    assert figures["worst_corruption_accuracy"] == figures["accuracy_fog"] == 0.25
    assert figures["kept_share"] == pytest.approx(0.475 / 0.8)


def test_a_model_that_is_never_right_keeps_nothing():
    wrong = np.zeros(4, bool)
    rows = [row("none", 0, wrong), *(row(name, n, wrong) for name in CORRUPTIONS for n in (1, 2, 3))]
    assert summarize(rows)["kept_share"] == 0


def test_fewer_images_are_taken_evenly(inputs):
    split = read_split(inputs[1])
    assert evenly(split, 3).archive_index.tolist() == [0, 299, 599]
    assert evenly(split, 1000) is split
    assert evenly(split, None) is split


def test_names_that_would_overlap_are_moved_apart_and_others_stay():
    assert spread([0.9, 0.5, 0.5, 0.1], 0.1) == pytest.approx([0.9, 0.55, 0.45, 0.1])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"class_names": ["cat", "dog", "frog"]},
            r'its class_names is \["cat", "dog", "frog"\], the splits\' is \["red"',
        ),
        ({"archive_sha256": "cd" * 32}, r"its archive_sha256 is cdcd.*, the splits' is abab.*dvc repro"),
    ],
)
def test_a_model_made_for_other_data_is_refused(inputs, tmp_path, facts, message):
    write_colour_model(inputs[0], **facts)
    with pytest.raises(PipelineError, match=message):
        robustness(PARAMS, *inputs, *outputs(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_split_that_was_not_validated_is_refused(inputs, tmp_path):
    write_split(inputs[1], paint(20))
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        robustness(PARAMS, *inputs, *outputs(tmp_path / "out"))


def test_a_model_that_cannot_be_read_is_told_in_one_message(inputs, tmp_path):
    inputs[0].write_bytes(b"no model")
    with pytest.raises(PipelineError, match=r"cannot read the ONNX model .*model.onnx.*dvc repro"):
        robustness(PARAMS, *inputs, *outputs(tmp_path / "out"))


def test_the_command_refuses_a_wrong_setting_by_name(tmp_path):
    (tmp_path / "params.yaml").write_text("robustness: {images: 0, seed: 0}\n")
    done = run(tmp_path, "pipeline.robustness", *range(7), PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "robustness.images is 0, but it should be greater than 0" in done.stderr
