"""The networks, each a function with its training settings beside it.

A network takes uint8 (n, 32, 32, 3), RGB, 0 to 255, and gives float32 (n, classes), rows that
sum to 1; scaling is its first layer. To add one, write a function and an entry in `NETWORKS`.
"""

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.errors import PipelineError, innermost
from pipeline.keras_start import start_keras

if TYPE_CHECKING:
    import keras


class Network(NamedTuple):
    """How to build a network of so many classes, and the settings it is trained with unless params.yaml says others."""

    build: Callable[[int], "keras.Model"]
    epochs: int
    batch_size: int
    learning_rate: float


def basic(classes: int) -> "keras.Model":
    """The plain convolutional network of TensorFlow's CIFAR-10 tutorial: 122,570 weights for 10 classes.

    Source: https://www.tensorflow.org/tutorials/images/cnn
    """
    from keras import Sequential, layers

    return Sequential(
        [
            layers.Input((SIDE, SIDE, CHANNELS), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),  # (n, 32, 32, 3), 0 to 1
            layers.Conv2D(32, 3, activation="relu"),  # (n, 30, 30, 32)
            layers.MaxPooling2D(2),  # (n, 15, 15, 32)
            layers.Conv2D(64, 3, activation="relu"),  # (n, 13, 13, 64)
            layers.MaxPooling2D(2),  # (n, 6, 6, 64)
            layers.Conv2D(64, 3, activation="relu"),  # (n, 4, 4, 64)
            layers.Flatten(),  # (n, 1024)
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="basic",
    )


NETWORKS = {
    "basic": Network(basic, epochs=10, batch_size=64, learning_rate=0.001),
}


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
