"""An int8 copy of an ONNX model, kept only if it is accurate and fast enough.

Static quantization: weights int8 per output channel, activations uint8 with the ranges that training images give.
Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import logging
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from pipeline.common.processor import processor_facts
from pipeline.data.large_arrays import batch_of
from pipeline.data.splits import Split
from pipeline.onnx.session import INPUT, open_session, predict_probabilities
from pipeline.registry.int8_form import int8_form, probability_layers
from pipeline.registry.latency import seconds_in_turn

CALIBRATION_IMAGES = 1000
MOST_IN_FLOAT = 3  # layers that may stay in float
ROUNDING = 1e-9  # of differences of accuracies: 0.85 - 0.845 is above 0.005 in float64
BATCH, ROUNDS = 64, 30  # of the speed comparison


def quantize_if_better(
    model: Path, target: Path, training: Split, validation: Split, int8_loss: float
) -> dict[str, object]:
    """Write the int8 copy of `model` to `target` if it is accurate and fast enough; returns the reason and figures.

    `training` gives the ranges of activations, `validation` decides: the copy may lose `int8_loss`, 0 to 1.
    """
    float_accuracy = accuracy(model, validation)
    least = float_accuracy - int8_loss - ROUNDING
    int8_accuracy, in_float = quantize_until_accurate(model, target, training, validation, least)
    ratios = np.percentile(speed_ratios(model, target, validation.images[:BATCH]), [10, 50, 90])
    p10, median, p90 = (round(float(ratio), 3) for ratio in ratios)
    kept, reason = is_better(float_accuracy - int8_accuracy, int8_loss, p10, median, p90)
    size = target.stat().st_size
    if not kept:
        target.unlink()
    return {
        "kept": kept,
        "reason": reason,
        "validation_accuracy": int8_accuracy,
        "float_validation_accuracy": float_accuracy,
        "layers_in_float": in_float,
        "reduce_range": not has_vnni(),
        "bytes": size,
        "speed_ratio": median,
        "speed_ratio_p10": p10,
        "speed_ratio_p90": p90,
    }


def quantize_until_accurate(
    model: Path, target: Path, training: Split, validation: Split, least: float
) -> tuple[float, list[str]]:
    """Write an int8 copy that leaves layers in float while needed; returns its accuracy and the layers in float."""
    images = calibration_images(training)
    quantize(model, target, images)
    reached, in_float = accuracy(target, validation), list[str]()
    layers = sensitive_layers(model, images, validation)[:MOST_IN_FLOAT] if reached < least else []
    while reached < least and layers:
        in_float.append(layers.pop(0))
        quantize(model, target, images, without=in_float)
        reached = accuracy(target, validation)
    return reached, in_float


def is_better(lost: float, int8_loss: float, p10: float, median: float, p90: float) -> tuple[bool, str]:
    """Whether the int8 copy is kept, and why; `lost` is validation accuracy, 0 to 1, p10 to p90 are speed ratios."""
    loss, speed = f"loses {100 * lost:.2f} points of validation accuracy", f"{median} times as fast ({p10} to {p90})"
    if lost > int8_loss + ROUNDING:
        return False, f"it {loss}, at most {100 * int8_loss:.2f} are allowed"
    if p10 <= 1:
        return False, f"it is {speed} on this machine, but 9 of 10 rounds must be faster"
    return True, f"it is {speed} and {loss}"


def calibration_images(training: Split) -> np.ndarray:
    """Images at equal distances in the split, for the ranges of activations: uint8 (n, side, side, 3)."""
    return training.images[np.linspace(0, len(training.images) - 1, CALIBRATION_IMAGES, dtype=int)]


def accuracy(model: Path, split: Split) -> float:
    """Accuracy of an ONNX model, 0 to 1."""
    probabilities = predict_probabilities(open_session(model), split.images, batch_of(250, split.images))
    return float(np.mean(probabilities.argmax(1) == split.labels))


def quantize(
    model: Path, target: Path, images: np.ndarray, only: list[str] | None = None, without: list[str] | None = None
) -> None:
    """Write the int8 copy of `model`: of all nodes, of the nodes `only`, or of all nodes except `without`.

    The ranges of activations are those on `images`, uint8 (n, side, side, 3).
    """
    logging.getLogger().setLevel(logging.ERROR)  # it recommends a preprocessing that onnx.simplify has done
    form, ranges = int8_form(onnx.load(model))
    quantize_static(
        form,
        target,
        Batches(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=only,
        nodes_to_exclude=[*(without or ()), *probability_layers(form)],
        extra_options={"TensorQuantOverrides": ranges},
    )


def has_vnni() -> bool:
    """Whether the processor sums int8 products in 32 bits; others use 16 bits, which overflow with 8-bit weights."""
    return any(name in processor_facts() for name in ("vnni", "asimddp"))  # x86, and ARM's dot products


class Batches(CalibrationDataReader):
    """The images in batches, as ONNX Runtime's calibration reads them."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches = iter(np.array_split(images, -(-len(images) // batch_of(BATCH, images))))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(({INPUT: batch} for batch in self._batches), None)


def sensitive_layers(model: Path, images: np.ndarray, validation: Split) -> list[str]:
    """The layers with weights, by validation accuracy when only that layer is int8, the lowest first.

    ONNX Runtime's debugger ranks by signal-to-noise ratio, which hides a channel that is lost next to a larger one.
    """
    accuracies = {}
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "one_layer.onnx"
        for layer in [node.name for node in onnx.load(model).graph.node if node.op_type in ("Conv", "MatMul")]:
            quantize(model, draft, images, only=[layer])
            accuracies[layer] = accuracy(draft, validation)
    return sorted(accuracies, key=accuracies.__getitem__)


def speed_ratios(model: Path, int8: Path, images: np.ndarray) -> np.ndarray:
    """Images per second of the int8 copy divided by those of the float model: float64 (rounds,)."""
    models = {"float": model, "int8": int8}
    calls = {name: partial(predict_probabilities, open_session(path), images, BATCH) for name, path in models.items()}
    seconds = seconds_in_turn(calls, ROUNDS)
    return seconds["float"] / seconds["int8"]
