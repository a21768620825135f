"""An int8 copy of an ONNX model, kept only where it earns its place.

Static quantisation by ONNX Runtime: weights int8 per output channel, activations uint8, ranges from
training images. Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.duel import right
from pipeline.latency import processor_facts, seconds_in_turn
from pipeline.onnx_model import INPUT, open_session, probabilities
from pipeline.splits import Split

CALIBRATION_IMAGES = 1000  # evenly over the training split
KINDS = ("Conv", "MatMul")  # layers with weights
MOST_IN_FLOAT = 3  # layers left in float, one after another, before int8 is given up
ROUNDING = 1e-9  # of differences of accuracies: 0.85 - 0.845 is above 0.005 in float64
BATCH, ROUNDS = 64, 30  # of the comparison of speed


def earn_int8(model: Path, target: Path, training: Split, validation: Split, loss: float) -> dict[str, Any]:
    """Write the int8 copy of `model` to `target` if it is accurate and fast enough; what was found, in figures.

    Args:
        training: its images alone tell the ranges of activations.
        validation: decides.
        loss: of validation accuracy, 0 to 1, that is allowed.
    """
    images, accuracy, in_float = calibration_images(training), accuracy_of(model, validation), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model.int8.onnx"
        quantize(model, draft, images)
        reached = accuracy_of(draft, validation)
        if accuracy - reached > loss + ROUNDING:
            for layer in worst_layers(model, images, validation)[:MOST_IN_FLOAT]:
                in_float.append(layer)
                quantize(model, draft, images, without=in_float)
                reached = accuracy_of(draft, validation)
                if accuracy - reached <= loss + ROUNDING:
                    break
        ratios = speed_ratios(model, draft, validation.images[:BATCH])
        found = {
            "validation_accuracy": reached,
            "float_validation_accuracy": accuracy,
            "layers_in_float": in_float,
            "reduce_range": not has_vnni(),  # 7-bit weights, right on any processor
            "bytes": draft.stat().st_size,
            "speed_ratio": round(float(np.median(ratios)), 3),  # of images per second, batches of 64
            "speed_ratio_p10": round(float(np.percentile(ratios, 10)), 3),
            "speed_ratio_p90": round(float(np.percentile(ratios, 90)), 3),
        }
        found = verdict(found, loss) | found
        if found["kept"]:
            target.write_bytes(draft.read_bytes())
    return found


def verdict(found: dict[str, Any], loss: float) -> dict[str, Any]:
    """Whether the int8 copy is kept, and why.

    Args:
        found: the figures of `earn_int8`.
        loss: of validation accuracy, 0 to 1, that is allowed.
    """
    lost = found["float_validation_accuracy"] - found["validation_accuracy"]
    speed = f"{found['speed_ratio']} times as fast ({found['speed_ratio_p10']} to {found['speed_ratio_p90']})"
    if lost > loss + ROUNDING:
        return {"kept": False, "reason": f"it loses {lost:.2%} of validation accuracy, at most {loss:.2%} is allowed"}
    if found["speed_ratio_p10"] <= 1:
        return {"kept": False, "reason": f"it is {speed}, which is no gain beyond chance on this machine"}
    return {"kept": True, "reason": f"it is {speed} and loses {lost:.2%} of validation accuracy"}


def calibration_images(training: Split) -> np.ndarray:
    """The images that tell the ranges of activations, evenly over the split: uint8 (n, 32, 32, 3)."""
    return training.images[np.linspace(0, len(training.images) - 1, CALIBRATION_IMAGES, dtype=int)]


def accuracy_of(model: Path, split: Split) -> float:
    """Share of the split's images whose class the ONNX model names."""
    return float(right(model, split).mean())


def quantize(
    model: Path, target: Path, images: np.ndarray, only: list[str] | None = None, without: list[str] | None = None
) -> None:
    """Write the int8 copy of `model`, of these nodes only, or without those.

    Args:
        images: uint8 (n, 32, 32, 3), which tell the ranges of activations.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    logging.getLogger().setLevel(logging.ERROR)  # it advises pre-processing that onnx_model has done
    quantize_static(
        model,
        target,
        reader(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=only,
        nodes_to_exclude=without,
    )


def has_vnni() -> bool:
    """Whether the processor adds int8 products in 32 bits; without, 16 bits overflow unless weights keep to 7 bits."""
    facts = processor_facts()
    return "vnni" in facts or "asimddp" in facts  # x86, and ARM's dot products


def reader(images: np.ndarray) -> Any:
    """The images in batches, as ONNX Runtime's calibration asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(np.array_split(images, -(-len(images) // BATCH)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    return Batches()


def worst_layers(model: Path, images: np.ndarray, validation: Split) -> list[str]:
    """The layers with weights, the one first that costs most accuracy where it alone is int8.

    ONNX Runtime's debugger ranks by signal over error of an activation, and so overlooks a channel
    that is lost beside a larger one.
    """
    import onnx

    accuracies = {}
    with tempfile.TemporaryDirectory() as folder:
        for layer in [node.name for node in onnx.load(model).graph.node if node.op_type in KINDS]:
            quantize(model, Path(folder) / "one.onnx", images, only=[layer])
            accuracies[layer] = accuracy_of(Path(folder) / "one.onnx", validation)
    return sorted(accuracies, key=accuracies.__getitem__)


def speed_ratios(model: Path, int8: Path, images: np.ndarray) -> np.ndarray:
    """Images per second of the int8 copy over those of the model, float64 (rounds,), timed in turn."""
    sessions = {path: open_session(path) for path in (model, int8)}
    calls = {str(path): lambda each=session: probabilities(each, images, BATCH) for path, session in sessions.items()}
    seconds = seconds_in_turn(calls, ROUNDS)
    return seconds[str(model)] / seconds[str(int8)]
