"""Section inference of `make bench`: the trained network run by Keras, TensorFlow and ONNX Runtime; export and predict as commands."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.engines import ENGINES
from benchmarks.measure import measure
from pipeline.quantize import calibration_images, quantize
from pipeline.splits import read_split

REPEATS = 5
EXPORT = (
    "python -m pipeline.release reports/metrics/validate.json data/splits/train.npz data/splits/validation.npz dist"
)


def bench_inference(folder: Path) -> dict[str, Any]:
    """Figures of the project in `folder`, whose stages have run."""
    print("bench: make export", flush=True)
    exported = measure(EXPORT, folder)
    (bundle,) = (folder / "dist").iterdir()
    manifest = json.loads((bundle / "manifest.json").read_text())
    int8 = folder / "model.int8.onnx"  # made anew, since the bundle has one only where it was kept
    images = calibration_images(read_split(folder / "data/splits/train.npz"))
    quantize(bundle / "model.onnx", int8, images, without=manifest["int8"]["layers_in_float"])
    files = [str(path) for path in (folder / "models/model.keras", bundle / "model.onnx", int8)]
    command = [sys.executable, "-m", "benchmarks.engines", *files]
    print("bench: one image, 64 and 1,000 in turn by each engine", flush=True)
    latencies = json.loads(measure(command, Path.cwd()).output.splitlines()[-1])
    return {
        "network": manifest["model"],
        "export_seconds": exported.seconds,
        "predict_seconds": predict_seconds(folder, bundle),
        "int8": manifest["int8"],
        "engines": {name: start(command, name) | {"batches": latencies[name]} for name in ENGINES},
        "bytes": dict(zip(ENGINES, (Path(files[place]).stat().st_size for place in (0, 0, 1, 2)), strict=True)),
    }


def predict_seconds(folder: Path, bundle: Path) -> float:
    """Median seconds of `python -m pipeline.predict` on one image, the whole process."""
    picture = folder / "picture.png"
    Image.fromarray(read_split(folder / "data/splits/validation.npz").images[0]).resize((640, 480)).save(picture)
    command = ["python", "-m", "pipeline.predict", str(bundle), str(picture)]
    return statistics.median(measure(command, folder).seconds for _ in range(REPEATS))


def start(command: list[str], engine: str) -> dict[str, float]:
    """Median seconds of a process that answers for one image, and its peak memory in MB, looked at every 50 ms."""
    runs = [measure([*command, "--only", engine], Path.cwd()) for _ in range(REPEATS)]
    return {
        "start_seconds": statistics.median(run.seconds for run in runs),
        "megabytes": max(run.megabytes for run in runs),
    }


def inference_text(results: dict[str, Any]) -> str:
    """The tables in Markdown; empty where nothing was measured."""
    if not results:
        return ""
    engines = results["engines"]
    sizes = list(next(iter(engines.values()))["batches"])
    lines = [
        f"Network `{results['network']}` trained on **{results['data']}**, {results['date']}, on {results['machine']}; all engines in turn in one process.",
        "",
        "| engine | "
        + " | ".join(f"{size} image{'s' * (size != '1')}: p50 / p99 ms, images/s" for size in sizes)
        + " | whole process for one image, s | memory, MB | file, MB |",
        "|---|" + "---|" * (len(sizes) + 3),
    ]
    for name, row in engines.items():
        cells = [
            f"{each['p50_ms']:.2f} / {each['p99_ms']:.2f}, {each['images_per_second']:,}"
            for each in row["batches"].values()
        ]
        lines.append(
            f"| {name} | "
            + " | ".join(cells)
            + f" | {row['start_seconds']:.1f} | {row['megabytes']:,.0f} | {results['bytes'][name] / 1e6:.2f} |"
        )
    one = {name: row["batches"]["1"]["p50_ms"] for name, row in engines.items()}
    many = {name: row["batches"]["64"]["images_per_second"] for name, row in engines.items()}
    best = "ONNX Runtime"
    return "\n".join(
        [
            *lines,
            "",
            f"For one image ONNX Runtime is {one['tf.function'] / one[best]:.1f} times as fast as `tf.function` and "
            f"{one['Keras predict'] / one[best]:.0f} times as `predict`; for 64 images {many[best] / many['Keras predict']:.1f} times as `predict`. "
            f"int8: {results['int8']['reason']}. `make export` took {results['export_seconds']:.0f} s, "
            f"`python -m pipeline.predict` on one image {results['predict_seconds']:.2f} s, whole processes.",
        ]
    )
