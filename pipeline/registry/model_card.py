"""The model card: README.md of a bundle."""

import re

from pipeline.common.files import Json

CONFUSION_MATRIX, PREDICTIONS = "pictures/confusion_matrix.png", "pictures/predictions.png"
SHOWN = 30  # classes; of more, the half of these with the highest F1 and the half with the lowest


def model_card(name: str, facts: Json, classes: list[dict[str, str]]) -> str:
    """A page in Markdown, from the bundle's name, the facts as for `write_bundle` and the rows of per_class.csv."""
    lineage, data, int8 = facts["lineage"], escaped(facts["data"]), facts["int8"]
    side, count = int(facts["inputs"][0]["shape"][1]), f"{len(classes):,} classes"
    test = f"{data}, test split ({facts['metrics']['test_images']:,.0f} images)"
    return f"""# {name}

Network {escaped(facts["model"])} classifies {side} x {side} RGB images into {count}{class_list(classes)}.

Use it to sort small images of such objects, or as a starting point for your own network. Do not use it for decisions
about people or safety.

Trained and evaluated on **{data}** (archive SHA-256 `{lineage["archive_sha256"]}`).

| metric | data | value |
|---|---|---|
{metric_rows(facts["metrics"], data, test)}

![Images by actual and predicted class: {test}]({CONFUSION_MATRIX})

Metrics per class on {test}{selection(classes)}:

| class | precision | recall | F1 |
|---|---|---|---|
{class_rows(selected(classes))}

![Images with their predicted class: {data}, test split]({PREDICTIONS})

## Speed

ONNX Runtime on {escaped(facts["latency"]["machine"])}, images of {data}, validation split:

| file | images per call | median, ms | 99th percentile, ms | images/s |
|---|---|---|---|---|
{latency_rows(facts["latency"])}

int8 copy, on {data}, validation split: {"in" if int8["kept"] else "not in"} this bundle: {int8["reason"]}.

## Use

Input `image`: uint8 [batch, {side}, {side}, 3], RGB, 0 to 255, any batch size.
Output `probabilities`: float32 [batch, {len(classes)}].

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
probabilities = session.run(["probabilities"], {{"image": np.zeros((1, {side}, {side}, 3), np.uint8)}})[0]
```

The columns of the output are the lines of labels.txt, in the same order. Turn a picture upright by its EXIF
orientation, put it on white if it is transparent, crop it to the square in its middle, and resize that to
{side} x {side} pixels by averaging. `python -m pipeline.predict` of the project does this for image files; manifest.json
names it as `preprocessing`.
`sha256sum --check SHA256SUMS` verifies a copy. `test_data_set_*` contain inputs and the expected outputs.

## Limits

The model always predicts one of these {count}, also for images that show none of them. It was
trained on small images of one object each; its metrics are valid for images like those of {data}.

Lineage: git commit {escaped(lineage["git_commit"] or "unknown")}, MLflow run {escaped(lineage["mlflow_run_id"])},
model version {lineage["model_version"]}. manifest.json contains more.
"""


def escaped(text: str) -> str:
    """Text that is the same after Markdown and HTML: no link, image, tag, emphasis, code, formula or end of a cell."""
    return re.sub(r"[!-&*+:-@\[-`{-~]|(?<=www)\.", lambda found: f"&#{ord(found[0])};", text)


def metric_rows(metrics: dict[str, float], data: str, test: str) -> str:
    """The rows of the table of metrics; `data` and `test` are the names of the data and of its test split."""
    accuracy, low, high = (metrics[f"test_accuracy{end}"] for end in ("", "_low", "_high"))
    return f"""| accuracy | {test} | {accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}) |
| macro F1 | {test} | {metrics["test_macro_f1"]:.4f} |
| expected calibration error | {test} | {metrics["test_calibration_error"]:.3f} |
| accuracy, by which the model was chosen | {data}, validation split | {metrics["validation_accuracy"]:.4f} |
| largest difference of a probability from the Keras model | {test} | {metrics["parity_max_abs_difference"]:.1e} |"""


def class_list(classes: list[dict[str, str]]) -> str:
    return f": {', '.join(escaped(row['class_name']) for row in classes)}" if len(classes) <= SHOWN else " (labels.txt)"


def selected(classes: list[dict[str, str]]) -> list[dict[str, str]]:
    """All classes, or the `SHOWN` with the highest and lowest F1, the highest first."""
    if len(classes) <= SHOWN:
        return classes
    ranked = sorted(classes, key=lambda row: -float(row["f1"]))
    return ranked[: SHOWN // 2] + ranked[-SHOWN // 2 :]


def selection(classes: list[dict[str, str]]) -> str:
    """Which classes are shown, unless all are."""
    text = f", the {SHOWN // 2} classes with the highest F1 and the {SHOWN // 2} with the lowest"
    return f"{text} (all: per_class.csv in the MLflow run)" if len(classes) > SHOWN else ""


def class_rows(classes: list[dict[str, str]]) -> str:
    return "\n".join(
        f"| {escaped(row['class_name'])} | {float(row['precision']):.3f} | {float(row['recall']):.3f} | {float(row['f1']):.3f} |"
        for row in classes
    )


def latency_rows(latency: Json) -> str:
    return "\n".join(
        f"| {name} | {size.removeprefix('batch_')} "
        f"| {row['p50_ms']:.3f} | {row['p99_ms']:.3f} | {row['images_per_second']:,} |"
        for name, table in latency.items()
        if name != "machine"
        for size, row in table.items()
    )
