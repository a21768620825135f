"""`make page`: the page in headless Chromium, compared with `pipeline.predict`."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from browsers import answer_of
from picture_folders import shape_pictures
from PIL import Image
from projects import ROOT, run

from pipeline.browser import runtime
from pipeline.common.errors import PipelineError
from pipeline.data.pictures import read_image
from pipeline.onnx.session import open_session, predict_probabilities

SENDS = """<!doctype html><meta charset="utf-8"><script type="module">
const send = found => fetch('/', { method: 'POST', body: JSON.stringify(found) });
try { %s } catch (error) { send(String(error)); }
</script>"""
CLASSIFIES = """
const { classify, classes } = await import('./page/classifier.js');
const found = [];
for (const name of await (await fetch('names.json')).json()) {
  const { pixels, probabilities } = await classify(await (await fetch(`pictures/${name}`)).blob());
  found.push({ name, pixels: Array.from(pixels), probabilities });
}
send({ classes, found });
"""
USES = """
const frame = document.createElement('iframe');
frame.src = 'page/index.html';
document.body.append(frame);
await new Promise(resolve => { frame.onload = resolve; });
const page = frame.contentDocument, answers = {};
const element = id => page.getElementById(id);
const until = async done => { while (!done()) await new Promise(resolve => setTimeout(resolve, 20)); };
const files = async names => {
  const transfer = new frame.contentWindow.DataTransfer();
  for (const name of names)
    transfer.items.add(new File([await (await fetch(name)).blob()], name, { type: name.endsWith('png') ? 'image/png' : '' }));
  return transfer;
};
async function answer(act) {
  element('status').textContent = '';
  act();
  await until(() => element('status').textContent && !element('status').textContent.endsWith('…'));
  return [element('status').textContent, element('answer').hidden,
    [...element('classes').children].map(item => item.textContent), element('view').width];
}
await new Promise(resolve => setTimeout(resolve, 500)); // the module has attached its listeners
const red = await files(['red.png']), broken = await files(['broken.txt']);
element('file').files = red.files;
answers.chosen = await answer(() => element('file').dispatchEvent(new frame.contentWindow.Event('change')));
const drop = transfer => new frame.contentWindow.DragEvent('drop', { dataTransfer: transfer, cancelable: true });
answers.broken = await answer(() => frame.contentWindow.dispatchEvent(drop(broken)));
answers.dropped = await answer(() => frame.contentWindow.dispatchEvent(drop(red)));
const paste = transfer => new frame.contentWindow.ClipboardEvent('paste', { clipboardData: transfer });
answers.pasted = await answer(() => frame.contentWindow.dispatchEvent(paste(red)));
answers.nothing = await answer(() => frame.contentWindow.dispatchEvent(paste(new frame.contentWindow.DataTransfer())));
answers.camera = await answer(() => element('camera').click());
answers.focusable = [...page.querySelectorAll('input, button')].map(each => each.tabIndex);
answers.unlabelled = [...page.querySelectorAll('input')].filter(each => !each.labels.length).length;
send(answers);
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package of ONNX Runtime Web, downloaded once."""
    try:
        return runtime.download(tmp_path_factory.mktemp("npm"))
    except PipelineError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(bundle, package, tmp_path, monkeypatch):
    """A folder to be served, with the page of the bundle."""
    done = run(ROOT, "pipeline.page", bundle.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"page: {bundle}/page, ")
    served = tmp_path / "served"
    shutil.copytree(bundle / "page", served / "page")
    return served


def write_pictures(folder):
    """50 pictures of many sizes and kinds; their names."""
    folder.mkdir()
    for number, (picture, _) in enumerate(shape_pictures(44, seed=3)):
        picture.save(folder / (f"{number}.png" if number % 2 else f"{number}.jpg"), quality=95)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 333, 4), np.uint8))
    noise.convert("RGB").save(folder / "large.png")
    noise.convert("L").save(folder / "grey.png")
    noise.convert("P").save(folder / "palette.gif")
    noise.convert("RGB").resize((20, 17)).save(folder / "small.webp", lossless=True)
    noise.resize((64, 64)).save(folder / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.convert("RGB").resize((90, 40)).save(folder / "turned.png", exif=exif)
    return sorted(path.name for path in folder.iterdir())


def test_the_page_sees_and_answers_what_predict_does(folder, bundle):
    names = write_pictures(folder / "pictures")
    assert len(names) == 50
    (folder / "names.json").write_text(json.dumps(names))
    (folder / "test.html").write_text(SENDS % CLASSIFIES)
    answer = answer_of(folder, "test.html")
    assert isinstance(answer, dict), answer
    assert answer["classes"] == (bundle / "labels.txt").read_text().split()
    images = np.stack([read_image(folder / "pictures" / name, 32) for name in names])
    expected = predict_probabilities(open_session(bundle / "model.onnx"), images, 50)
    for found, image, probabilities in zip(answer["found"], images, expected, strict=True):
        difference = np.abs(np.reshape(found["pixels"], image.shape) - image.astype(int))
        assert difference.max() <= 1, found["name"]  # of high pictures: Pillow exchanges its two passes
        assert np.argmax(found["probabilities"]) == probabilities.argmax()
        np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-3)


def test_a_picture_is_chosen_dropped_or_pasted_and_anything_else_is_explained(folder):
    Image.new("RGB", (60, 40), (200, 10, 10)).save(folder / "red.png")
    (folder / "broken.txt").write_text("no picture")
    (folder / "test.html").write_text(f"<body></body>{SENDS % USES}")
    answers = answer_of(folder, "test.html")
    assert isinstance(answers, dict), answers
    for way, name in (("chosen", "red.png"), ("dropped", "red.png"), ("pasted", "the pasted picture")):
        status, hidden, classes, width = answers[way]
        assert status == f"{name}: red, 95.7 %"
        assert (hidden, width) == (False, 32)
        assert classes == ["red 95.7 %", "green 2.1 %", "blue 2.1 %"]
    status, hidden, _, _ = answers["broken"]
    assert status.startswith("broken.txt: This file is not a picture that the browser can read.")
    assert hidden
    assert answers["nothing"][0] == "The clipboard has no picture: copy a picture, not its address."
    assert answers["camera"][0].startswith("No camera: ")
    assert set(answers["focusable"]) == {0}
    assert answers["unlabelled"] == 0


def test_the_page_loads_nothing_from_elsewhere(folder):
    texts = [path.read_text() for path in (folder / "page").iterdir() if path.suffix in (".html", ".js", ".json")]
    assert len(texts) == 5
    assert not [text for text in texts if "http://" in text or "https://" in text]


def test_class_names_are_escaped_and_the_page_of_a_bundle_is_the_same_again(bundle, package):
    from pipeline.html.page import render

    assert "&lt;b&gt;" in render("browser", name="a", classes=["<b>", "c"], side=32)
    pages = []
    for _ in range(2):
        assert run(ROOT, "pipeline.page", bundle.parent, bundle).returncode == 0
        pages.append({path.name: path.read_bytes() for path in (bundle / "page").iterdir()})
    assert pages[0] == pages[1]


def test_without_a_bundle_the_remedy_is_make_export(tmp_path):
    done = run(ROOT, "pipeline.page", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"page: there is no bundle in {tmp_path}. `make export` writes one.\n"


def test_a_damaged_bundle_gets_no_page(bundle):
    (bundle / "model.onnx").write_bytes(b"x")
    done = run(ROOT, "pipeline.page", bundle.parent)
    assert (done.returncode, (bundle / "page").exists()) == (1, False)
    assert "is not the file in the manifest" in done.stderr


def fake_npm(tmp_path, monkeypatch, script):
    (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_another_package_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, "echo other > package.tgz")
    with pytest.raises(PipelineError, match=r"has the SHA-512 [0-9a-f]{128}, expected was 4f4f4952.*npm config get"):
        runtime.write_runtime(tmp_path)
    assert not list(tmp_path.glob("*.wasm"))


def test_a_failure_of_npm_is_reported(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, "echo no network >&2; exit 1")
    with pytest.raises(PipelineError, match=r"`npm pack --silent onnxruntime-web@.*` failed: no network\. Check"):
        runtime.write_runtime(tmp_path)


def test_without_npm_the_remedy_is_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PipelineError, match=r"npm was not found.*Install Node\.js"):
        runtime.write_runtime(tmp_path)


def test_the_scripts_are_valid(tmp_path):
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    for script in (ROOT / "pipeline/browser").glob("*.js"):
        copy = shutil.copyfile(script, tmp_path / f"{script.stem}.mjs")
        subprocess.run(["node", "--check", copy], check=True)
