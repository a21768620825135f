"""The model card: README.md of a bundle."""

from typing import Any


def model_card(name: str, facts: dict[str, Any], classes: list[dict[str, str]]) -> str:
    """A page in Markdown: what the model is for, how good it is on what data, how fast, how to run it.

    Args:
        name: of the bundle's folder.
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

For programs that sort small pictures of such objects, and as a starting point for a network of one's own; not for decisions about people or safety.

Trained and measured on **{facts["data"]}** (archive SHA-256 `{lineage["archive_sha256"]}`).

| figure | value |
|---|---|
| test accuracy | {metrics["test_accuracy"]:.4f} (95 % interval {metrics["test_accuracy_low"]:.4f} to {metrics["test_accuracy_high"]:.4f}, {metrics["test_images"]:,.0f} images) |
| test macro F1 | {metrics["test_macro_f1"]:.4f} |
| expected calibration error, test | {metrics["test_calibration_error"]:.3f} |
| validation accuracy (the model was chosen by it) | {metrics["validation_accuracy"]:.4f} |
| largest difference from the Keras model, {metrics["parity_images"]:,.0f} test images | {metrics["parity_max_abs_difference"]:.1e} |

![Counts of test images by actual and predicted class](pictures/confusion_matrix.png)

| class | precision | recall | F1 |
|---|---|---|---|
{rows}

![Test images with the class that the model names](pictures/predictions.png)

## Speed

ONNX Runtime on {facts["latency"]["machine"]}:

| file | images in a call | median, ms | 99th percentile, ms | images/s |
|---|---|---|---|---|
{latency_rows(facts["latency"])}

int8: {"kept" if facts["int8"]["kept"] else "not in this bundle"}: {facts["int8"]["reason"]}.

## Use

Input `image`: uint8 [batch, 32, 32, 3], RGB, 0 to 255, any batch size. Output `probabilities`: float32 [batch, {len(class_names)}].

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
probabilities = session.run(["probabilities"], {{"image": np.zeros((1, 32, 32, 3), np.uint8)}})[0]
```

A larger picture is cut to the square in its middle and averaged down to 32 x 32; `python -m pipeline.predict` of the
project does it for image files. Column i is the class on line i of labels.txt. `sha256sum --check SHA256SUMS` proves the copy;
`test_data_set_*` hold inputs with the outputs that they must give.

## Limits

The model knows these {len(class_names)} classes and always names one of them, whatever the image shows. It has seen only
small images of one object each; its figures hold for images like those of its data set.

Lineage: git commit `{lineage["git_commit"] or "unknown"}`, MLflow run `{lineage["mlflow_run_id"]}`, model version {lineage["model_version"]}; the rest stands in manifest.json.
"""


def latency_rows(latency: dict[str, Any]) -> str:
    """The latency table's rows in Markdown."""
    return "\n".join(
        f"| {name} | {size.removeprefix('batch_')} | {row['p50_ms']:.3f} | {row['p99_ms']:.3f} | {row['images_per_second']:,} |"
        for name, table in latency.items()
        if name != "machine"
        for size, row in table.items()
    )
