"""The bundle that is deployed: the ONNX file, its labels, a manifest and a model card."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json, sha256_of, whole, write_json

LAYOUT = 1  # major version of the bundle's layout


def write_bundle(target: Path, onnx_file: Path, per_class: Path, facts: dict[str, Any]) -> Path:
    """Write the folder `target`; equal arguments give equal bytes, and another model's folder is not overwritten.

    Args:
        per_class: table with columns class_name, precision, recall, f1, images.
        facts: from `manifest_facts`, with the model version in `lineage`.
    """
    refuse_another(target, facts["lineage"])
    with per_class.open(newline="") as table:
        classes = list(csv.DictReader(table))
    with whole(target) as (draft,):
        draft.mkdir()
        shutil.copyfile(onnx_file, draft / "model.onnx")
        (draft / "labels.txt").write_text("".join(f"{row['class_name']}\n" for row in classes))
        (draft / "README.md").write_text(model_card(target.name, facts, classes))
        files = {
            path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in sorted(draft.iterdir())
        }
        write_json(draft / "manifest.json", {"layout": LAYOUT, "files": files} | facts)
    return target


def refuse_another(target: Path, lineage: dict[str, Any]) -> None:
    """Raise `PipelineError` where the folder holds another model: a new store counts versions from 1 again."""
    manifest = target / "manifest.json"
    if not manifest.exists():
        return
    theirs = read_json(manifest, "Move that folder away, then run `make export`.")["lineage"]
    if theirs["mlflow_run_id"] != lineage["mlflow_run_id"]:
        raise PipelineError(
            f"{target} holds the model of MLflow run {theirs['mlflow_run_id']}, this one is of run "
            f"{lineage['mlflow_run_id']} in another store. Move that folder away, then run `make export`."
        )


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


def model_card(name: str, facts: dict[str, Any], classes: list[dict[str, str]]) -> str:
    """A page in Markdown: what the model is for, how good it is on what data, how to run it.

    Args:
        facts: as for `write_bundle`.
        classes: rows with class_name, precision, recall, f1.
    """
    metrics, lineage = facts["metrics"], facts["lineage"]
    class_names = [row["class_name"] for row in classes]
    rows = "\n".join(
        f"| {row['class_name']} | {float(row['precision']):.3f} | {float(row['recall']):.3f} | {float(row['f1']):.3f} |"
        for row in classes
    )
    return f"""# {name}

Classifies 32 x 32 RGB images into {len(class_names)} classes: {", ".join(class_names)}. Network `{facts["model"]}`.

Trained and measured on **{facts["data"]}** (archive SHA-256 `{lineage["archive_sha256"]}`).

| figure | value |
|---|---|
| test accuracy | {metrics["test_accuracy"]:.4f} (95 % interval {metrics["test_accuracy_low"]:.4f} to {metrics["test_accuracy_high"]:.4f}, {metrics["test_images"]:,.0f} images) |
| test macro F1 | {metrics["test_macro_f1"]:.4f} |
| validation accuracy (the model was chosen by it) | {metrics["validation_accuracy"]:.4f} |
| largest difference from the Keras model, {metrics["parity_images"]:,.0f} test images | {metrics["parity_max_abs_difference"]:.1e} |

| class | precision | recall | F1 |
|---|---|---|---|
{rows}

## Use

Input `image`: uint8 [batch, 32, 32, 3], RGB, 0 to 255, any batch size. Output `probabilities`: float32 [batch, {len(class_names)}].

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
probabilities = session.run(["probabilities"], {{"image": np.zeros((1, 32, 32, 3), np.uint8)}})[0]
```

## Limits

The model knows these {len(class_names)} classes and always names one of them, whatever the image shows. It has seen only
small images of one object each; its figures hold for images like those of its data set.

Lineage: git commit `{lineage["git_commit"] or "unknown"}`, MLflow run `{lineage["mlflow_run_id"]}`, model version {lineage["model_version"]}; the rest stands in manifest.json.
"""
