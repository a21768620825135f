"""Export stage: the Keras model as an ONNX file, proven equal on every test image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.files import removed_on_failure, sha256_of, whole, write_json
from pipeline.keras_file import load_model
from pipeline.keras_start import without_chatter
from pipeline.onnx_model import open_session, probabilities, to_onnx
from pipeline.params import Params, run_stage
from pipeline.splits import read_split, require_validated

MAX_DIFFERENCE = 1e-5  # of a probability; float32 rounds at 6e-8, sums of thousands of products at 1e-6
BATCH_SIZES = (1, 7, 256)  # single images, an odd batch, throughput


class ExportParams(Params):
    opset: int = Field(ge=13, le=18)  # what tf2onnx writes


def export(
    params: ExportParams,
    model: Path,
    test: Path,
    report: Path,
    train_metrics: Path,
    curves: Path,
    onnx_model: Path,
    metrics: Path,
) -> None:
    """Write the ONNX file and the figures of its proof.

    Raises:
        PipelineError: ONNX Runtime and Keras differ on a test image by more than `MAX_DIFFERENCE`
            or name another class; no ONNX file is left then.
    """
    approved = require_validated(report, test)
    from pipeline import lineage, tracking

    split, outputs = read_split(test), (onnx_model, metrics)
    with (
        lineage.run_of(model, approved, train_metrics, curves, split.images[:2]) as mlflow,
        removed_on_failure(*outputs),
    ):
        keras_model = load_model(model)
        facts = {
            "archive_sha256": split.archive_sha256,
            "model": keras_model.name,
            "validation_accuracy": json.loads(train_metrics.read_text())["validation_accuracy"],
        }
        with whole(*outputs) as (onnx_draft, metrics_draft):
            with without_chatter():
                proto = to_onnx(keras_model, params.opset, split.class_names.tolist(), facts)
            onnx_draft.write_bytes(proto.SerializeToString(deterministic=True))
            proof = compare(keras_model, open_session(onnx_draft), split.images)
            refuse_difference(proof)
            figures = proof | {"bytes": onnx_draft.stat().st_size, "opset": params.opset}
            write_json(metrics_draft, figures)
        with tracking.explained():
            mlflow.set_tags(lineage.stage_tags("train", "evaluate") | {"export.opset": params.opset})
            mlflow.log_artifact(onnx_model)
            mlflow.log_metrics({name if "parity" in name else f"onnx_{name}": value for name, value in figures.items()})
            mlflow.set_tags({"parity_passed": "true", "onnx_sha256": sha256_of(onnx_model)})
    print(
        f"export: {onnx_model}, {figures['bytes']:,} bytes; on {proof['parity_images']:,} test images at most "
        f"{proof['parity_max_abs_difference']:.1e} from Keras, {proof['parity_argmax_disagreements']} other classes"
    )


def compare(keras_model: Any, session: Any, images: np.ndarray) -> dict[str, Any]:
    """How far ONNX Runtime is from Keras on every image, the worst of `BATCH_SIZES`.

    A disagreement is another most probable class, unless Keras gives both the very same probability.

    Args:
        images: uint8 (n, 32, 32, 3), RGB.
    """
    expected = keras_model.predict(images, batch_size=256, verbose=0)  # (n, classes)
    rows = np.arange(len(images))
    differences, disagreements = [], []
    for batch_size in BATCH_SIZES:
        actual = probabilities(session, images, batch_size)
        differences.append(np.abs(actual - expected).max())
        disagreements.append((expected[rows, actual.argmax(1)] != expected.max(1)).sum())
    return {
        "parity_images": len(images),
        "parity_max_abs_difference": float(np.max(differences)),  # NaN where any is NaN, unlike max()
        "parity_argmax_disagreements": int(np.max(disagreements)),
    }


def refuse_difference(proof: dict[str, Any]) -> None:
    """Raise where the ONNX model is not the Keras model."""
    difference, disagreements = proof["parity_max_abs_difference"], proof["parity_argmax_disagreements"]
    if not difference <= MAX_DIFFERENCE or disagreements:  # NaN is refused too
        raise PipelineError(
            f"the ONNX model is not equal to the Keras model on {proof['parity_images']} test images: a probability "
            f"differs by {difference:.2e} (at most {MAX_DIFFERENCE:.0e} is allowed), {disagreements} images get another "
            "class. Try another export.opset in params.yaml, then run `dvc repro export`."
        )


if __name__ == "__main__":
    run_stage(export, ExportParams)
