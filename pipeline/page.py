"""`make page`: a bundle as a page that runs in a browser, in its folder `page`: python -m pipeline.page DIST [BUNDLE]

Any program that serves files shows the page, also without a network: it loads nothing from elsewhere. Pictures become
the model's input as in `python -m pipeline.predict`.
"""

import json
import shutil
import sys
from pathlib import Path

from pipeline.browser.runtime import write_runtime
from pipeline.common.errors import exit_on_error
from pipeline.common.files import atomic_outputs
from pipeline.html.page import render
from pipeline.registry.bundle import ONNX_FILE
from pipeline.registry.bundle_model import latest_bundle, model_of_bundle

SCRIPTS = ("app.js", "classifier.js", "pictures.js")  # in pipeline/browser/
TARGET = "page"  # in the bundle's folder


def page(bundle: Path) -> None:
    """Write the page of a bundle and say how to open it.

    Raises:
        PipelineError: the bundle cannot be used, or ONNX Runtime Web cannot be downloaded.
    """
    target = bundle / TARGET
    with model_of_bundle(bundle) as (model, class_names, content), atomic_outputs(target) as (draft,):
        draft.mkdir()
        text = render("browser", name=bundle.resolve().name, classes=class_names, side=model.side)
        (draft / "index.html").write_text(text, encoding="utf-8")
        facts = json.dumps({"classes": class_names, "side": model.side})
        (draft / "model.json").write_text(facts)
        (draft / ONNX_FILE).write_bytes(content)
        for script in SCRIPTS:
            shutil.copyfile(Path(__file__).parent / "browser" / script, draft / script)
        write_runtime(draft)
    size = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    print(f"page: {target}, {size:.0f} MB. To open it: python -m http.server --bind 127.0.0.1 --directory '{target}'")


if __name__ == "__main__":
    with exit_on_error("page"):
        dist, *chosen = map(Path, sys.argv[1:])
        page(chosen[0] if chosen else latest_bundle(dist))
