"""A trained network as a .keras file: equal models give equal bytes, and the file carries its training record."""

import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.common.errors import PipelineError, root_cause
from pipeline.common.files import Json
from pipeline.models.keras_backend import start_keras

if TYPE_CHECKING:
    import keras

METADATA, CONFIG = "metadata.json", "config.json"  # members of a .keras file


class TrainingRecord(NamedTuple):
    """How a model was trained, stored in its own file: other files can be lost or belong to another training.

    figures: content of train.json.
    data: SHA-256 of the archive and of the splits, by tag name.
    settings: by "section.key", as they were when the model was trained.
    epochs: one row of figures per epoch, as in curves.csv.
    """

    figures: dict[str, float]
    data: dict[str, str]
    settings: Json
    epochs: list[dict[str, float]]


def save_model(model: "keras.Model", path: Path, record: TrainingRecord) -> None:
    """Write a .keras file whose bytes depend only on the model and the record.

    Keras writes the date, and memory addresses as ids of shared objects, into the zip file
    (keras/src/saving/saving_lib.py). Here the date is fixed and the ids are 0, 1, ... in order.
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "model.keras"
        model.save(raw)
        with zipfile.ZipFile(raw) as source, zipfile.ZipFile(path, "w") as target:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name == METADATA:
                    fixed = {"date_saved": "1980-01-01@00:00:00", "training": record._asdict()}
                    content = json.dumps(json.loads(content) | fixed).encode()
                if name == CONFIG:
                    content = json.dumps(_number_ids(json.loads(content), {})).encode()
                target.writestr(zipfile.ZipInfo(name), content)  # the date of a new ZipInfo is 1980-01-01


def _number_ids(node: object, numbers: dict[object, int]) -> object:
    if isinstance(node, list):
        return [_number_ids(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else _number_ids(value, numbers)
        for key, value in node.items()
    }


def read_training_record(path: Path) -> TrainingRecord:
    """The training record of a .keras file; `PipelineError` if it is damaged or this pipeline did not write it."""
    try:
        with zipfile.ZipFile(path) as file:
            return TrainingRecord(**json.loads(file.read(METADATA))["training"])
    except (KeyError, TypeError):
        raise _unreadable(path, "it has no training record") from None
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise _unreadable(path, root_cause(error)) from None


def read_input_shape(path: Path) -> tuple[int, int, int]:
    """Height, width and channels of the images of a .keras file's network; `PipelineError` if the file is damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            layers = json.loads(file.read(CONFIG))["config"]["layers"]
        _, height, width, channels = layers[0]["config"]["batch_shape"]
    except (KeyError, TypeError, IndexError):
        raise _unreadable(path, "its first layer has no input shape") from None
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise _unreadable(path, root_cause(error)) from None
    return height, width, channels


def load_model(path: Path) -> "keras.Model":
    """The network of a .keras file, not compiled; `PipelineError` if the file is missing or damaged."""
    keras = start_keras()
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file can raise anything
        raise _unreadable(path, root_cause(error)) from None


def _unreadable(path: Path, reason: str) -> PipelineError:
    return PipelineError(f"cannot read the model {path}: {reason}. `dvc repro` restores or recreates it.")
