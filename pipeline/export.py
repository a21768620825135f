"""Export stage: the Keras model as an ONNX file, proven equal on every test image."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, removed_on_failure, sha256_of, write_json
from pipeline.common.params import Params, run_stage
from pipeline.data.large_arrays import batch_of
from pipeline.data.splits import read_split, require_validated
from pipeline.models.inference import predict
from pipeline.models.keras_backend import filtered_stderr
from pipeline.models.saving import load_model, read_training_record
from pipeline.onnx.convert import to_onnx
from pipeline.onnx.session import open_session, predict_probabilities

if TYPE_CHECKING:
    import keras
    import onnxruntime

MAX_DIFFERENCE = 1e-5  # of a probability; float32 rounds at 6e-8, sums of thousands of products at 1e-6
BATCH_SIZES = (1, 7, 256)  # single images, an odd batch, throughput


class ExportParams(Params):
    """Section `export`."""

    opset: int = Field(ge=13, le=18)  # the versions that tf2onnx writes


class Parity(NamedTuple):
    """The difference between ONNX Runtime and Keras: of a probability at most, and images with another class."""

    images: int
    max_abs_difference: float
    argmax_disagreements: int


def export(params: ExportParams, model: Path, test_split: Path, verdict: Path, onnx_model: Path, metrics: Path) -> None:
    """Write the ONNX file and its parity figures; `PipelineError` and no file if ONNX Runtime and Keras differ."""
    validated = require_validated(verdict, test=test_split)
    from pipeline.tracking import lineage, run_logging, store

    split, outputs = read_split(test_split), (onnx_model, metrics)
    with run_logging.run_of_model(model, validated, split.images[:2]), removed_on_failure(*outputs):
        import mlflow

        keras_model = load_model(model)
        accuracy = read_training_record(model).figures["validation_accuracy"]
        facts = {"archive_sha256": split.archive_sha256, "model": keras_model.name, "validation_accuracy": accuracy}
        if split.preprocessing:
            facts["preprocessing"] = split.preprocessing
        with atomic_outputs(*outputs) as (onnx_draft, metrics_draft):
            with filtered_stderr():
                proto = to_onnx(keras_model, params.opset, split.class_names.tolist(), facts)
            onnx_draft.write_bytes(proto.SerializeToString(deterministic=True))
            parity = compare(keras_model, open_session(onnx_draft), split.images)
            refuse_difference(parity)
            size = onnx_draft.stat().st_size
            parity_figures = {f"parity_{name}": value for name, value in parity._asdict().items()}
            write_json(metrics_draft, parity_figures | {"bytes": size, "opset": params.opset})
        with store.explain_store_errors():
            mlflow.set_tags(lineage.stage_tags("train", "evaluate") | {"export.opset": params.opset})
            mlflow.log_artifact(str(onnx_model))
            mlflow.log_metrics(parity_figures | {"onnx_bytes": size, "onnx_opset": params.opset})
            mlflow.set_tags({"parity_passed": "true", "onnx_sha256": sha256_of(onnx_model)})
    print(
        f"export: {onnx_model}, {size:,} bytes; largest difference from Keras on {parity.images:,} test images "
        f"{parity.max_abs_difference:.1e}, {parity.argmax_disagreements} with another class"
    )


def compare(keras_model: "keras.Model", session: "onnxruntime.InferenceSession", images: np.ndarray) -> Parity:
    """The largest difference between ONNX Runtime and Keras over all `images`, uint8 (n, side, side, 3), and `BATCH_SIZES`.

    A disagreement is another predicted class, unless Keras gives both classes the same probability.
    """
    expected = predict(keras_model, images, 256)  # (n, classes)
    sizes = [batch_of(size, images) for size in BATCH_SIZES]
    actual = np.stack([predict_probabilities(session, images, size) for size in sizes])  # (sizes, n, classes)
    disagreements = expected[np.arange(len(images)), actual.argmax(2)] != expected.max(1)  # (sizes, n)
    return Parity(len(images), float(np.abs(actual - expected).max()), int(disagreements.sum(1).max()))


def refuse_difference(parity: Parity) -> None:
    """Raise `PipelineError` if the ONNX model is not equal to the Keras model."""
    if not parity.max_abs_difference <= MAX_DIFFERENCE or parity.argmax_disagreements:  # NaN is refused too
        raise PipelineError(
            f"the ONNX model is not equal to the Keras model on {parity.images} test images: a probability differs by "
            f"{parity.max_abs_difference:.2e} (at most {MAX_DIFFERENCE:.0e} is allowed), {parity.argmax_disagreements} "
            "images get another class. Try another export.opset in params.yaml, then run `dvc repro export`."
        )


if __name__ == "__main__":
    run_stage(export, ExportParams)
