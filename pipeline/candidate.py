"""What is registered of a run: its ONNX model in MLflow's flavour, with all that the bundle will hold.

What is measured (latency, whether int8 earns its place) is measured here, once, and stored, so a
bundle is the same to the byte whenever it is made from a version.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cifar10 import CHANNELS, SIDE
from pipeline.files import sha256_of, write_json
from pipeline.latency import latency_table, machine
from pipeline.onnx_model import INPUT, OUTPUT, open_session, probabilities
from pipeline.quantize import earn_int8
from pipeline.registry import FACTS, ONNX_FILE, PER_CLASS, PICTURES, fetch_artefact, require_same
from pipeline.splits import Split
from pipeline.tracking import explained

INT8_FILE = "model.int8.onnx"
SHOWN = ("confusion_matrix.png", "predictions.png")  # pictures of the run that the model card shows
TEST_SIZES = (1, 3, 8)  # images of test_data_set_0, 1 and 2


def write_candidate(mlflow: Any, run: Any, model: Path, training: Split, validation: Split, int8_loss: float) -> None:
    """Write the folder `model` of a run that competes.

    Args:
        int8_loss: of validation accuracy, 0 to 1, that the int8 copy may have.

    Raises:
        PipelineError: the run's ONNX file is not the one that was proven.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        with explained():
            onnx_file, per_class, *shown = (
                fetch_artefact(mlflow, run, name, Path(folder))
                for name in (ONNX_FILE, PER_CLASS, *(f"{PICTURES}/{name}" for name in SHOWN))
            )
        require_same(sha256_of(onnx_file), run.data.tags["onnx_sha256"], f"MLflow run {run.info.run_id}")
        save_flavour(mlflow, onnx.load(onnx_file), model)
        shutil.copy(onnx_file, model / ONNX_FILE)  # to the byte, whatever MLflow made of it
        shutil.copy(per_class, model)
        (model / PICTURES).mkdir()
        for picture in shown:
            shutil.copy(picture, model / PICTURES)
    write_test_data(model / ONNX_FILE, validation.images, model)
    int8 = earn_int8(model / ONNX_FILE, model / INT8_FILE, training, validation, int8_loss)
    facts = manifest_facts(onnx.load(model / ONNX_FILE), run) | {
        "int8": int8,
        "latency": {"machine": machine()} | time_models(model, validation.images),
    }
    write_json(model / FACTS, facts)


def save_flavour(mlflow: Any, proto: Any, model: Path) -> None:
    """Write `proto` as MLflow's ONNX flavour has it, so that `mlflow models serve` can answer with it."""
    example = np.zeros((1, SIDE, SIDE, CHANNELS), np.uint8)
    scores = np.zeros((1, proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value), np.float32)
    mlflow.onnx.save_model(
        proto,
        model,
        signature=mlflow.models.infer_signature({INPUT: example}, {OUTPUT: scores}),
        input_example={INPUT: example},
        pip_requirements=["onnxruntime", "numpy"],
        save_as_external_data=False,  # MLflow's default would strip the weights from `proto`
    )


def write_test_data(onnx_file: Path, images: np.ndarray, folder: Path) -> None:
    """Write test_data_set_0 to 2, each input_0.pb and output_0.pb, as the ONNX Model Zoo ships them.

    Args:
        images: uint8 (n, 32, 32, 3), RGB; the first are taken.
    """
    from onnx.numpy_helper import from_array

    session = open_session(onnx_file)
    for number, size in enumerate(TEST_SIZES):
        tensors = {
            "input_0.pb": from_array(images[:size], INPUT),
            "output_0.pb": from_array(probabilities(session, images[:size], size), OUTPUT),
        }
        (target := folder / f"test_data_set_{number}").mkdir()
        for name, tensor in tensors.items():
            (target / name).write_bytes(tensor.SerializeToString())


def time_models(model: Path, images: np.ndarray) -> dict[str, Any]:
    """The latency table of the ONNX file and of its int8 copy where there is one."""
    sessions = {path.name: open_session(path) for path in (model / ONNX_FILE, model / INT8_FILE) if path.exists()}
    calls = {
        name: lambda batch, each=session: probabilities(each, batch, len(batch)) for name, session in sessions.items()
    }
    return latency_table(calls, images)


def manifest_facts(proto: Any, run: Any) -> dict[str, Any]:
    """What the bundle says of itself: interface, metrics with the data's name, lineage.

    Args:
        proto: the onnx.ModelProto.
        run: the MLflow run that made it, with its metrics and tags.
    """
    tags, metrics = run.data.tags, run.data.metrics
    dvc = {key.removeprefix("dvc."): json.loads(value) for key, value in sorted(tags.items()) if key.startswith("dvc.")}
    libraries = {
        key.removeprefix("library."): value for key, value in sorted(tags.items()) if key.startswith("library.")
    }
    return {
        "model": tags["model"],
        "opset": proto.opset_import[0].version,
        "ir_version": proto.ir_version,
        "inputs": [_interface(value) for value in proto.graph.input],
        "outputs": [_interface(value) for value in proto.graph.output],
        "data": tags["data"],
        "metrics": {
            "validation_accuracy": metrics["best_validation_accuracy"],
            **{key: value for key, value in sorted(metrics.items()) if key.startswith(("test_", "parity_"))},
        },
        "lineage": {
            "archive_sha256": tags["archive_sha256"],
            "splits_sha256": tags["splits_sha256"],
            "model_sha256": tags["model_sha256"],
            "git_commit": tags.get("git_commit"),
            "git_dirty": tags.get("git_dirty"),
            "dvc_stages": dvc,
            "mlflow_run_id": run.info.run_id,
            "libraries": libraries,
        },
    }


def _interface(value: Any) -> dict[str, Any]:
    import onnx

    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, "shape": shape}
