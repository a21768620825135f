import html
import json
import os
import re
import resource
import subprocess
import sys

import numpy as np
import onnx
import pytest
from toy_models import VERSION_FACTS

from pipeline.common.errors import PipelineError
from pipeline.common.files import write_csv
from pipeline.data.pictures import PREPROCESSING
from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.registry.bundle import MAXIMUM_BYTES, read_bundle, write_bundle

FILES = ["README.md", "SHA256SUMS", "labels.txt", "manifest.json", "model.onnx"]
FOLDERS = ["pictures", "test_data_set_0", "test_data_set_1", "test_data_set_2"]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_contains_what_a_deployment_needs(bundle):
    assert sorted(path.name for path in bundle.iterdir()) == FILES + FOLDERS
    assert (bundle / "labels.txt").read_text() == "red\ngreen\nblue\n"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["layout"] == 1
    listed = set(content(bundle)) - {bundle.relative_to(bundle) / name for name in ("manifest.json", "SHA256SUMS")}
    assert sorted(manifest["files"]) == sorted(path.as_posix() for path in listed)
    assert {name: manifest[name] for name in VERSION_FACTS} == VERSION_FACTS


def test_a_second_bundle_has_the_same_bytes(tmp_path, version, bundle):
    again = write_bundle(tmp_path / "again/colours-v1", version, VERSION_FACTS)
    assert content(again) == content(bundle)
    before = content(bundle)
    write_bundle(bundle, version, VERSION_FACTS)
    assert content(bundle) == before


def test_a_bundle_contains_the_int8_file_of_the_version(tmp_path, version):
    (version / "model.int8.onnx").write_bytes(b"small")
    bundle = write_bundle(tmp_path / "dist/colours-v1", version, VERSION_FACTS)
    assert (bundle / "model.int8.onnx").read_bytes() == b"small"
    assert "model.int8.onnx" in json.loads((bundle / "manifest.json").read_text())["files"]


def test_sha256sum_accepts_the_checksums(bundle):
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(command, cwd=bundle, capture_output=True).returncode == 0
    (bundle / "labels.txt").write_text("cat\n")
    assert subprocess.run(command, cwd=bundle, capture_output=True).returncode == 1


def test_the_test_data_are_inputs_with_the_outputs_of_the_model(bundle):
    session, sizes = open_session(bundle / "model.onnx"), []
    for number in range(3):
        image, expected = (
            onnx.numpy_helper.to_array(onnx.load_tensor(bundle / f"test_data_set_{number}" / name))
            for name in ("input_0.pb", "output_0.pb")
        )
        sizes.append(len(image))
        np.testing.assert_allclose(predict_probabilities(session, image, len(image)), expected, atol=1e-6)
    assert sizes == [1, 3, 8]


def test_the_model_card_contains_the_metrics_and_its_code_runs(bundle):
    card = (bundle / "README.md").read_text()
    assert "**painted images**" in card
    test = "painted images, test split (100 images)"
    assert f"| accuracy | {test} | 0.5000 (95 % interval 0.4000 to 0.6000) |" in card
    assert f"| macro F1 | {test} | 0.5000 |" in card
    assert f"| expected calibration error | {test} | 0.020 |" in card
    assert "| accuracy, by which the model was chosen | painted images, validation split | 0.7500 |" in card
    assert f"| largest difference of a probability from the Keras model | {test} | 1.0e-06 |" in card
    assert f"Metrics per class on {test}:" in card
    assert "| green | 0.500 | 0.250 | 0.750 |" in card
    assert "| model.onnx | 1 | 0.500 | 1.000 | 2,000 |" in card
    assert "int8 copy, on painted images, validation split: not in this bundle: it is slower." in card
    plots = re.findall(r"!\[([^]]+)\]\(([^)]+)\)", card)
    assert len(plots) == 2
    for caption, plot in plots:
        assert "painted images" in caption
        assert (bundle / plot).exists()
    assert "Turn a picture upright by its EXIF\norientation, put it on white if it is transparent, crop" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1] + "print(probabilities.shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 3)\n"


@pytest.mark.parametrize("classes", [30, 31, 1000])
def test_the_model_card_of_many_classes_contains_the_best_and_the_worst(tmp_path, version, classes):
    rows = [
        {"class_name": f"class {i}", "precision": 0.5, "recall": 0.25, "f1": i * 7 % classes / classes, "images": 10}
        for i in range(classes)
    ]
    write_csv(version / "per_class.csv", rows)
    bundle = write_bundle(tmp_path / "dist/v1", version, VERSION_FACTS)
    card = (bundle / "README.md").read_text()
    shown = re.findall(r"^\| (class \d+) \| 0.500 \|", card, re.MULTILINE)
    by_f1 = [row["class_name"] for row in sorted(rows, key=lambda row: -row["f1"])]
    few = classes == 30
    assert shown == ([row["class_name"] for row in rows] if few else by_f1[:15] + by_f1[-15:])
    assert ("15 classes with the highest F1 and the 15 with the lowest (all: per_class.csv in" in card) == (not few)
    assert (f"into {classes:,} classes{': class 0, class 1, ' if few else ' (labels.txt).'}") in card
    assert (bundle / "labels.txt").read_text() == "".join(f"class {i}\n" for i in range(classes))
    assert len(card) < 6000


ODD_NAMES = ["<script>alert(1)</script>", "a|b", "*c* _d_ `e` $x$", "[l](http://e.example)", "www.example.com", "é 猫"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_plain_text_in_the_model_card(tmp_path, version, name):
    """Of Markdown's and HTML's characters, none is left; a viewer shows the name as it is."""
    rows = [{"class_name": each, "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10} for each in (name, "b")]
    write_csv(version / "per_class.csv", rows)
    card = (write_bundle(tmp_path / "dist/v1", version, VERSION_FACTS | {"data": name}) / "README.md").read_text()
    shown = re.search(r"^\| (.+) \| 0.500 \| 0.250 \| 0.750 \|$", card, re.MULTILINE)[1]
    assert not re.search(r"[][<>|*_`$:@!#\\](?!\d+;)|www\.", shown.replace("&#", "#"))
    assert html.unescape(shown) == name
    assert card.count(name) == (name == "é 猫") * card.count(shown)
    assert (tmp_path / "dist/v1/labels.txt").read_text() == f"{name}\nb\n"


def test_a_bundle_of_another_store_is_not_overwritten(bundle, version):
    before = content(bundle)
    lineage = VERSION_FACTS["lineage"] | {"mlflow_run_id": "another"}
    with pytest.raises(PipelineError, match=r"v1 holds the model of MLflow run a run.*Move that folder away"):
        write_bundle(bundle, version, VERSION_FACTS | {"lineage": lineage})
    assert content(bundle) == before


def test_on_a_full_disk_the_old_bundle_stays_and_no_partial_one(bundle, version):
    before = content(bundle)
    (version / "model.int8.onnx").write_bytes(bytes(1 << 20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))  # no file may be larger, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            write_bundle(bundle, version, VERSION_FACTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(bundle) == before
    assert list(bundle.parent.iterdir()) == [bundle]


def test_reading_gives_the_content_of_the_files(bundle):
    content = read_bundle(bundle, "model.onnx", "labels.txt")
    assert content == {name: (bundle / name).read_bytes() for name in ("model.onnx", "labels.txt")}


FILE_DAMAGES = {
    "other content": (lambda path: path.write_bytes(b"other"), "is not the file in the manifest"),
    "missing": (lambda path: path.unlink(), "cannot be read: No such file or directory"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory|is not a regular file"),
    "a FIFO": (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
    "a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "is not a regular file"),
    "too large": (lambda path: os.truncate(path, MAXIMUM_BYTES + 1), "is larger than 200 MB"),
}


@pytest.mark.parametrize("name", FILE_DAMAGES)
def test_a_changed_missing_or_special_file_is_refused(bundle, name):
    damage, message = FILE_DAMAGES[name]
    damage(bundle / "model.onnx")
    with pytest.raises(PipelineError, match=rf"model.onnx ({message}).*Copy the bundle again"):
        read_bundle(bundle, "model.onnx")


MANIFESTS = {
    "a list": ("[]", "it is a list, expected was an object"),
    "a number": ("1", "it is a int, expected was an object"),
    "not JSON": ("{", r"manifest\.json is damaged"),
    "not text": (b"\xff\xfe\x00", r"manifest\.json is damaged"),
    "nested too deep": ("[" * 100_000, r"manifest\.json is damaged"),
    "a long integer": ("9" * 10_000, r"manifest\.json is damaged"),
    "huge": (" " * 3_000_000, "is larger than 2 MB"),
    "no layout": ("{}", "has layout of type NoneType, but this code reads layout 1"),
    "a layout with control characters": ('{"layout": "\\u001b[2J"}', r"has layout \\x1b\[2J, but"),
    "a layout that is a list": ('{"layout": [1]}', "has layout of type list"),
    "no files": ('{"layout": 1}', "expected was None"),
    "files that are a list": ('{"layout": 1, "files": ["model.onnx"]}', "expected was None"),
    "an entry that is text": ('{"layout": 1, "files": {"model.onnx": "ab"}}', "expected was None"),
    "a hash that is a number": ('{"layout": 1, "files": {"model.onnx": {"sha256": 1}}}', "expected was None"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_odd_manifest_is_refused_with_one_message(bundle, name):
    content, message = MANIFESTS[name]
    (bundle / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PipelineError, match=message) as caught:
        read_bundle(bundle, "model.onnx")
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("value", "shown"), [("square, 2", '"square, 2"'), ("\x1b", r'"\\x1b"'), ("", '""'), ([1], "of type list")]
)
def test_an_unknown_preprocessing_is_refused(bundle, value, shown):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"preprocessing": value}))
    with pytest.raises(
        PipelineError,
        match=rf'json has the preprocessing {shown}, but the only one that this code knows is "upright, .*, 1"\. '
        r"Use the code of the git commit in its manifest\.$",
    ):
        read_bundle(bundle, "labels.txt")


def test_the_preprocessing_of_this_code_is_read(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"preprocessing": PREPROCESSING}))
    assert read_bundle(bundle, "labels.txt") == {"labels.txt": b"red\ngreen\nblue\n"}


def test_another_layout_is_refused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"layout": 2}))
    with pytest.raises(PipelineError, match="has layout 2, but this code reads layout 1"):
        read_bundle(bundle)


def test_a_damaged_manifest_and_a_folder_that_is_not_a_bundle_are_refused(bundle, tmp_path):
    (bundle / "manifest.json").write_text("{")
    with pytest.raises(PipelineError, match=r"manifest\.json is damaged"):
        read_bundle(bundle)
    with pytest.raises(PipelineError, match=r"is not a bundle: it has no manifest\.json"):
        read_bundle(tmp_path / "nothing")
