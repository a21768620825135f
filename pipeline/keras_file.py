"""A trained network as a .keras file: equal models give equal bytes, and the file knows train.json's figures."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, innermost
from pipeline.keras_start import start_keras

if TYPE_CHECKING:
    import keras


def save_model(model: "keras.Model", path: Path, figures: dict[str, Any]) -> None:
    """Write a .keras file whose bytes depend on the model and `figures` alone.

    `figures`, the content of train.json, goes into its metadata: the two can be told to belong together.

    Keras puts a date, and as ids the memory addresses of shared objects, into the zip it writes
    (keras/src/saving/saving_lib.py): the date is fixed, the ids become 0, 1, ... as they occur.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "model.keras"
        model.save(raw)
        with zipfile.ZipFile(raw) as source, zipfile.ZipFile(path, "w") as target:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name == "metadata.json":
                    fixed = {"date_saved": "1980-01-01@00:00:00", "train": figures}
                    content = json.dumps(json.loads(content) | fixed).encode()
                if name == "config.json":
                    content = json.dumps(_number_ids(json.loads(content), {})).encode()
                target.writestr(zipfile.ZipInfo(name), content)  # ZipInfo's own date is 1980-01-01


def _number_ids(node: Any, numbers: dict[int, int]) -> Any:
    if isinstance(node, list):
        return [_number_ids(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else _number_ids(value, numbers)
        for key, value in node.items()
    }


def require_figures(path: Path, figures: dict[str, Any]) -> None:
    """Raise `PipelineError` where the .keras file is damaged or not the one that train.json is about."""
    try:
        with zipfile.ZipFile(path) as file:
            own = json.loads(file.read("metadata.json")).get("train")
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _unreadable(path, error) from None
    if own != figures:
        raise PipelineError(
            f"{path} is not the model that train.json is about: its figures are {own}, there stands {figures}. "
            "`dvc repro` brings the two that belong together."
        )


def _unreadable(path: Path, error: Exception) -> PipelineError:
    return PipelineError(f"cannot read the model {path}: {innermost(error)}. `dvc repro` restores it or makes it anew.")


def load_model(path: Path) -> "keras.Model":
    """Read a .keras file.

    Raises:
        PipelineError: the file is absent or damaged.
    """
    keras = start_keras()
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file can raise anything
        raise _unreadable(path, error) from None
