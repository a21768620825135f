"""A version in the Model Registry: an MLflow model of the ONNX flavor, with everything that its bundle contains.

Latency and the int8 copy are measured once, at registration: the bundle of a version always has the same bytes.
"""

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from pipeline.common.errors import printable
from pipeline.common.files import Json, read_csv, sha256_of, write_json
from pipeline.common.processor import machine
from pipeline.data.pictures import PREPROCESSING
from pipeline.data.splits import Split
from pipeline.onnx.isolated import IsolatedModel, UnusableModel
from pipeline.onnx.session import INPUT, OUTPUT, open_session, predict_probabilities
from pipeline.registry.artifacts import REGISTERED_NAME, download_artifact, explain_damage, name_of, require_same
from pipeline.registry.bundle import (
    FACTS,
    INT8_FILE,
    ONNX_FILE,
    PER_CLASS,
    TEST_DATA,
    unknown_preprocessing,
    write_bundle,
)
from pipeline.registry.latency import ROUNDS, latency_table
from pipeline.registry.model_card import CONFUSION_MATRIX, PREDICTIONS
from pipeline.registry.quantize import quantize_if_better
from pipeline.registry.significance import is_correct

if TYPE_CHECKING:
    from mlflow.entities import Run


def write_model_version(run: "Run", folder: Path, training: Split, validation: Split, int8_loss: float) -> Path:
    """Write a run's version to a subfolder of `folder`; `UnusableModel` if a file or figure of the run is not valid."""
    model = folder / "model"
    onnx_file = download_artifact(run, ONNX_FILE, folder)
    require_same(sha256_of(onnx_file), run.data.tags["onnx_sha256"], name_of(run))
    require_accuracy(run.data.metrics["best_validation_accuracy"], is_correct(onnx_file, validation))
    with explain_damage(name_of(run)):
        proto = onnx.load(onnx_file, load_external_data=False)
        save_mlflow_model(proto, model)
        onnx_file = onnx_file.replace(model / ONNX_FILE)  # the bytes that passed parity; MLflow serializes again
        for name in (PER_CLASS, CONFUSION_MATRIX, PREDICTIONS):
            download_artifact(run, name, model)
        write_test_data(onnx_file, validation.images, model)
        int8 = quantize_if_better(onnx_file, model / INT8_FILE, training, validation, int8_loss)
        facts = {"int8": int8, "latency": measure_latency(model, validation.images)}
        write_json(model / FACTS, manifest_facts(proto, run) | facts)
        require_usable(model)
    return model


def require_accuracy(claimed: float, correct: np.ndarray) -> None:
    """Raise `UnusableModel` if a validation accuracy is not the measured one; `correct` is bool (n,).

    Devices round differently: one image, and two of 1,000, may get another class.
    """
    measured = float(correct.mean())
    if not abs(claimed - measured) <= 1 / len(correct) + 0.002:
        raise UnusableModel(
            f"its validation accuracy is {measured:.4f}, measured on this machine, but it is recorded with "
            f"{claimed:.4f}"
        )


def measure_latency(model: Path, images: np.ndarray) -> dict[str, object]:
    """The latency of the ONNX files of a version on this machine."""
    paths = [path for path in (model / ONNX_FILE, model / INT8_FILE) if path.exists()]
    calls = {path.name: partial(predict_probabilities, open_session(path), batch_size=max(ROUNDS)) for path in paths}
    return {"machine": machine(), **latency_table(calls, images)}


def require_usable(files: Path) -> None:
    """Raise `UnusableModel` if a version's files do not give a bundle whose models have the names of their classes."""
    class_names = [row["class_name"] for row in read_csv(files / PER_CLASS)]
    with IsolatedModel((files / ONNX_FILE).read_bytes(), len(class_names), strict=True) as model:
        if model.class_names != json.dumps(class_names):
            raise UnusableModel(
                f"the classes of its {ONNX_FILE} are {printable(model.class_names, 200) or 'missing'}, those of its "
                f"{PER_CLASS} are {printable(json.dumps(class_names), 200)}"
            )
        if objection := unknown_preprocessing(model.preprocessing):
            raise UnusableModel(f"its {ONNX_FILE} has {objection}")
        if (int8 := files / INT8_FILE).exists():
            with IsolatedModel(int8.read_bytes(), len(class_names), strict=True) as copy:
                if copy.side != model.side:
                    raise UnusableModel(f"its {ONNX_FILE} has the side {model.side}, its {INT8_FILE} {copy.side}")
    with tempfile.TemporaryDirectory() as dist:
        write_version_bundle(files, 1, Path(dist))


def write_version_bundle(files: Path, version: int, dist: Path) -> str:
    """Write the bundle of a version's files to a folder in `dist`; the folder and its accuracies as text."""
    facts = json.loads((files / FACTS).read_text())
    facts["lineage"]["model_version"] = version
    if objection := unknown_preprocessing(facts.get("preprocessing", PREPROCESSING)):
        raise UnusableModel(f"its {FACTS} has {objection}")
    validation, test = (facts["metrics"][f"{split}_accuracy"] for split in ("validation", "test"))
    accuracies = f"validation accuracy {validation:.4f}, test accuracy {test:.4f}"
    return f"{write_bundle(dist / f'{REGISTERED_NAME}-v{version}', files, facts)}, {accuracies}"


def save_mlflow_model(proto: onnx.ModelProto, model: Path) -> None:
    """Write `proto` as an MLflow model of the ONNX flavor, for `mlflow models serve`."""
    import mlflow

    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:]]
    classes = proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    example, probabilities = np.zeros((1, *shape), np.uint8), np.zeros((1, classes), np.float32)
    mlflow.onnx.save_model(
        proto,
        model,
        signature=mlflow.models.infer_signature({INPUT: example}, {OUTPUT: probabilities}),
        input_example={INPUT: example},
        pip_requirements=["onnxruntime", "numpy"],
        save_as_external_data=False,  # MLflow's default would strip the weights from `proto`
    )


def write_test_data(onnx_file: Path, images: np.ndarray, folder: Path) -> None:
    """Write the folders `TEST_DATA`, as in the ONNX Model Zoo: the first of `images` and the model's outputs."""
    session = open_session(onnx_file)
    for name, size in TEST_DATA.items():
        probabilities = predict_probabilities(session, images[:size], size)
        (folder / name).mkdir()
        onnx.save_tensor(onnx.numpy_helper.from_array(images[:size], INPUT), folder / name / "input_0.pb")
        onnx.save_tensor(onnx.numpy_helper.from_array(probabilities, OUTPUT), folder / name / "output_0.pb")


def manifest_facts(proto: onnx.ModelProto, run: "Run") -> Json:
    """The model's part of the bundle's manifest: interface, metrics with the name of the data, lineage."""
    tags, metrics = run.data.tags, run.data.metrics
    return {
        "model": tags["model"],
        "opset": proto.opset_import[0].version,
        "ir_version": proto.ir_version,
        "inputs": [_interface(value) for value in proto.graph.input],
        "outputs": [_interface(value) for value in proto.graph.output],
        "preprocessing": {each.key: each.value for each in proto.metadata_props}.get("preprocessing", PREPROCESSING),
        "data": tags["data"],
        "metrics": {
            "validation_accuracy": metrics["best_validation_accuracy"],
            **{key: value for key, value in sorted(metrics.items()) if key.startswith(("test_", "parity_"))},
        },
        "lineage": {
            **{name: tags[name] for name in ("archive_sha256", "splits_sha256", "model_sha256")},
            **{name: tags.get(name) for name in ("git_commit", "git_dirty")},
            "dvc_stages": {stage: json.loads(hashes) for stage, hashes in _with_prefix(tags, "dvc.").items()},
            "mlflow_run_id": run.info.run_id,
            "libraries": _with_prefix(tags, "library."),
        },
    }


def _with_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The tags with this prefix, in order, their names without it."""
    return {name.removeprefix(prefix): value for name, value in sorted(tags.items()) if name.startswith(prefix)}


def _interface(value: onnx.ValueInfoProto) -> dict[str, object]:
    """Name, dtype and shape of an input or output."""
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, "shape": shape}
