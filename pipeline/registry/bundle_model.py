"""The model of a bundle, ready to classify; it runs in a process of its own.

`pipeline.predict` uses this module, so it imports nothing heavy.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.errors import PipelineError, printable
from pipeline.onnx.isolated import IsolatedModel, UnusableModel
from pipeline.registry.bundle import (
    LABELS,
    MANIFEST,
    ONNX_FILE,
    REMEDY,
    USE_ITS_CODE,
    read_bundle,
    unknown_preprocessing,
)


@contextmanager
def model_of_bundle(bundle: Path) -> Iterator[tuple[IsolatedModel, list[str], bytes]]:
    """The model, its class names in the order of its output, and the ONNX file.

    Raises:
        PipelineError: the bundle is not whole, its files contradict each other, or this code does not know its
            preprocessing; inside the block: the model exceeds a bound.
    """
    contents = read_bundle(bundle, ONNX_FILE, LABELS)
    class_names = contents[LABELS].decode("utf-8", "backslashreplace").split("\n")[:-1]
    try:
        with IsolatedModel(contents[ONNX_FILE], len(class_names)) as model:
            if objection := unknown_preprocessing(model.preprocessing):
                raise PipelineError(f"{bundle / ONNX_FILE} has {objection}. {USE_ITS_CODE}")
            if model.class_names != json.dumps(class_names):
                raise PipelineError(
                    f"{bundle / LABELS} has the classes {json.dumps(class_names)[:300]}, but those of {ONNX_FILE} are "
                    f"{printable(model.class_names, 300) or 'missing'}. {REMEDY}"
                )
            yield model, class_names, contents[ONNX_FILE]
    except UnusableModel as error:
        raise PipelineError(f"{bundle / ONNX_FILE} cannot be used: {error}. {REMEDY}") from None


def latest_bundle(dist: Path) -> Path:
    """The bundle in the folder that was written last; `PipelineError` if there is none."""
    manifests = sorted(dist.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    if not manifests:
        raise PipelineError(f"there is no bundle in {dist}. `make export` writes one.")
    return manifests[-1].parent
