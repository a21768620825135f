"""Bundles of others, given to `python -m pipeline.predict`: one message and exit code 1, or the right classes."""

import json
import os

import pytest
from hostile_models import HOSTILE, colours, colours_of, external
from PIL import Image
from projects import ROOT, run

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of
from pipeline.data.pictures import PREPROCESSING
from pipeline.onnx import isolated
from pipeline.predict import predict


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (40, 40), (200, 10, 10)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def replace(bundle, **contents):
    """Replace files of a bundle, and their hashes in its manifest: model_onnx=b"..." writes model.onnx."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, content in contents.items():
        path = bundle / name.replace("_", ".")
        path.write_bytes(content)
        manifest["files"][path.name] = {"sha256": sha256_of(path)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_without_a_result(bundle, picture, monkeypatch, capsys, name):
    monkeypatch.setattr(isolated, "SECONDS", 1.0)
    replace(bundle, model_onnx=HOSTILE[name][0])
    pictures = [picture] * (2 if name == "a softmax over the images" else 1)
    with pytest.raises(PipelineError, match=r"Copy the bundle again, or run `make export`\.$") as caught:
        predict(bundle, pictures, as_json=False)
    assert capsys.readouterr().out == ""
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900


def test_a_model_with_an_unknown_preprocessing_is_refused_and_with_the_known_one_used(bundle, picture, capsys):
    replace(bundle, model_onnx=colours_of("square, 2"))
    with pytest.raises(
        PipelineError,
        match=r'model.onnx has the preprocessing "square, 2", but .*, 1"\. Use the code of the git commit',
    ):
        predict(bundle, [picture], as_json=False)
    replace(bundle, model_onnx=colours_of(PREPROCESSING))
    assert predict(bundle, [picture], as_json=False) == 0
    assert capsys.readouterr().out.startswith(f"{picture}: red 9")


@pytest.mark.parametrize("side", [16, 48, 128])
def test_pictures_get_the_side_of_the_model(bundle, picture, capsys, side):
    replace(bundle, model_onnx=colours(side=side))
    assert predict(bundle, [picture], as_json=False) == 0
    assert capsys.readouterr().out.startswith(f"{picture}: red 9")


@pytest.mark.parametrize(
    "labels", [b"red\ngreen\n", b"red\ngreen\nblue\ngrey\n", b"red\nblue\ngreen\n", b"", b"\xff\n\x1b\n\n"], ids=str
)
def test_labels_that_are_not_those_of_the_model_are_refused(bundle, picture, capsys, labels):
    replace(bundle, labels_txt=labels)
    with pytest.raises(PipelineError, match=r"its input and output are|has the classes") as caught:
        predict(bundle, [picture], as_json=False)
    assert str(caught.value).isprintable()
    assert capsys.readouterr().out == ""


def test_the_command_ends_with_one_line_and_exit_code_1(bundle, picture):
    replace(bundle, model_onnx=HOSTILE["NaN outputs"][0])
    done = run(ROOT, "pipeline.predict", bundle, picture)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"predict: {bundle}/model.onnx cannot be used: its outputs are not probabilities")
    assert len(done.stderr.splitlines()) == 1


def test_external_data_beside_the_model_or_in_the_working_folder_is_not_read(bundle, picture, monkeypatch):
    (bundle / "weights.bin").write_bytes(bytes(36))
    monkeypatch.chdir(bundle)
    replace(bundle, model_onnx=colours(external("weights.bin")))
    with pytest.raises(PipelineError, match=r"cannot be used: .*External data path validation failed"):
        predict(bundle, [picture], as_json=False)


def test_what_was_checked_is_what_is_used(bundle, picture, monkeypatch, capsys):
    """A file that is replaced after its hash was checked is not read again."""
    from pipeline.registry import bundle_model as module

    def swap(*arguments):
        contents = read(*arguments)
        (bundle / "model.onnx").write_bytes(HOSTILE["NaN outputs"][0])
        (bundle / "labels.txt").write_text("cat\ndog\nbird\n")
        return contents

    read = module.read_bundle
    monkeypatch.setattr(module, "read_bundle", swap)
    assert predict(bundle, [picture], as_json=False) == 0
    assert ": red " in capsys.readouterr().out


def test_a_manifest_that_is_a_fifo_is_refused(bundle, picture):
    (bundle / "manifest.json").unlink()
    os.mkfifo(bundle / "manifest.json")
    with pytest.raises(PipelineError, match=r"it has no manifest\.json"):
        predict(bundle, [picture], as_json=False)
