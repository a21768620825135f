"""The way of a user with own pictures: make pack, make repro, make evidence, make export, and predictions."""

import json

import numpy as np
import pytest
import yaml
from picture_folders import shape_pictures, write_folder
from PIL import Image
from projects import as_clone, make, make_project, run, set_params
from stores import empty_store

from pipeline.common.files import read_csv, read_json
from pipeline.data.splits import read_split
from pipeline.onnx.session import open_session

SIDE = 48
FEW = {"disc": 70, "ring": 60, "square": 12}  # skewed
MANY = {f"class {number:03}": 4 + number % 9 for number in range(120)}


def finished(folder, archive, counts, **train):
    """A clone in which a folder of pictures was packed and the whole pipeline ran."""
    project = make_project(folder / "a project", archive)
    set_params(project, train={"epochs": 3} | train, evaluate={"pictures": 9}, suspect_labels={"pictures": 9})
    as_clone(project)
    empty_store(project / "mlflow.db")
    write_folder(project / "pictures", counts)
    for command in (
        ["pack", "FOLDER=pictures", f"SIDE={SIDE}", "OUT=data/raw/pictures.tar.gz", "WRITE=1"],
        ["repro"],
        ["evidence"],
        ["export"],
    ):
        done = make(project, *command)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), f"{command}: {done.stdout}{done.stderr}"
    return project


@pytest.fixture(scope="module")
def few(tmp_path_factory, archive):
    return finished(tmp_path_factory.mktemp("few"), archive, FEW, epochs=8, class_weight="balanced")


@pytest.fixture(scope="module")
def many(tmp_path_factory, archive):
    return finished(tmp_path_factory.mktemp("many"), archive, MANY)


on_few, on_many = pytest.mark.xdist_group("few"), pytest.mark.xdist_group("many")  # one process for each


@on_few
def test_three_unequal_classes_at_side_48(few):
    verdict, splits = read_json(few / "reports/metrics/validate.json", ""), {}
    for name in ("train", "validation", "test"):
        splits[name] = read_split(few / f"data/splits/{name}.npz")
    assert (verdict["success"], verdict["images"]) == (True, sum(FEW.values()))
    assert {split.images.shape[1:] for split in splits.values()} == {(SIDE, SIDE, 3)}
    assert all(np.bincount(split.labels, minlength=3).all() for split in splits.values())
    assert yaml.safe_load((few / "params.yaml").read_text())["validate"]["class_imbalance"] is None


@on_few
def test_the_model_names_its_side_and_preprocessing(few):
    session = open_session(few / "models/model.onnx")
    (bundle,) = (few / "dist").iterdir()
    manifest = read_json(bundle / "manifest.json", "")
    assert session.get_inputs()[0].shape == ["batch", SIDE, SIDE, 3]
    packed = read_split(few / "data/splits/test.npz").preprocessing
    assert packed == manifest["preprocessing"] == session.get_modelmeta().custom_metadata_map["preprocessing"]
    assert f"{SIDE} x {SIDE} RGB images into 3 classes" in (bundle / "README.md").read_text()


@on_few
def test_predict_sees_what_the_model_was_tested_on(few):
    """A file of the test split gets the probability that evaluate wrote."""
    (bundle,) = (few / "dist").iterdir()
    files = {int(row["archive_index"]): row["file"] for row in read_csv(few / "data/raw/pictures.csv")}
    for row in read_csv(few / "reports/predictions.csv")[:5]:
        file = few / "pictures" / files[int(row["archive_index"])]
        done = run(few, "pipeline.predict", bundle, file, "--json")
        best = json.loads(done.stdout)["predictions"][0]
        assert best["class"] == row["predicted"]
        assert abs(best["probability"] - float(row["probability"])) < 1e-4


@on_few
def test_predict_reads_pictures_of_any_size(few, tmp_path):
    (bundle,) = (few / "dist").iterdir()
    for number, size in enumerate(((1, 1), (16, 900), (2_000, 1_500))):
        shape_pictures(3, number)[0][0].resize(size).save(tmp_path / f"{number}.png")
    Image.new("L", (28, 28), 90).save(tmp_path / "grey.png")
    done = run(few, "pipeline.predict", bundle, tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 4)


@on_many
def test_120_unequal_classes(many):
    figures = read_json(many / "reports/metrics/evaluate.json", "")
    assert figures["images"] == len(read_csv(many / "reports/predictions.csv")) >= 120
    assert len(read_csv(many / "reports/per_class.csv")) == 120
    page = (many / "reports/report.html").read_text()
    assert "class 119" in page
    for picture in many.glob("reports/plots/**/*.png"):
        with Image.open(picture) as image:
            assert max(image.size) < 4_000, picture
    (bundle,) = (many / "dist").iterdir()
    assert (bundle / "labels.txt").read_text().splitlines() == list(MANY)


@on_many
def test_a_second_run_has_nothing_to_do(many):
    done = make(many, "repro")
    assert "Data and pipelines are up to date." in done.stdout
