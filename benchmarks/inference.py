"""Section inference of `make bench`: a trained network in Keras, TensorFlow, ONNX Runtime and OpenVINO; export, predict."""

import json
import statistics
import sys
from pathlib import Path

from PIL import Image

from benchmarks.engines import ENGINES, FILES, installed_engines
from benchmarks.measure import measure
from pipeline.common.files import Json
from pipeline.data.splits import read_split
from pipeline.registry.quantize import calibration_images, quantize

REPEATS = 5
EXPORT = (
    "python -m pipeline.promote reports/metrics/validate.json data/splits/train.npz data/splits/validation.npz dist"
)


def bench_inference(folder: Path) -> Json:
    """The figures of the project in `folder`, whose stages have run."""
    print("bench: make export", flush=True)
    exported = measure(EXPORT, folder)
    (bundle,) = (folder / "dist").iterdir()
    manifest = json.loads((bundle / "manifest.json").read_text())
    int8 = folder / "model.int8.onnx"  # quantized again, because a bundle contains a copy only if it is better
    images = calibration_images(read_split(folder / "data/splits/train.npz"))
    quantize(bundle / "model.onnx", int8, images, without=manifest["int8"]["layers_in_float"])
    files = dict(zip(FILES, (folder / "models/model.keras", bundle / "model.onnx", int8), strict=True))
    command = [sys.executable, "-m", "benchmarks.engines", *map(str, files.values())]
    names = installed_engines()
    if len(names) < len(ENGINES):
        print("bench: OpenVINO is not installed: `.venv/bin/python -m pip install '.[openvino]'` adds it", flush=True)
    print("bench: 1, 64 and 1,000 images with each engine, in alternation", flush=True)
    latencies = json.loads(measure(command, Path.cwd()).output.splitlines()[-1])
    return {
        "network": manifest["model"],
        "export_seconds": exported.seconds,
        "predict_seconds": predict_seconds(folder, bundle),
        "int8": manifest["int8"],
        "engines": {name: measure_start(command, name) | {"batches": latencies[name]} for name in names},
        "bytes": {name: files[ENGINES[name][1]].stat().st_size for name in names},
    }


def predict_seconds(folder: Path, bundle: Path) -> float:
    """Median seconds of `python -m pipeline.predict` for one image, as a whole process."""
    image = folder / "image.png"
    Image.fromarray(read_split(folder / "data/splits/validation.npz").images[0]).resize((640, 480)).save(image)
    command = ["python", "-m", "pipeline.predict", str(bundle), str(image)]
    return statistics.median(measure(command, folder).seconds for _ in range(REPEATS))


def measure_start(command: list[str], engine: str) -> dict[str, float]:
    """Median seconds and peak memory in MB of a process that classifies one image."""
    runs = [measure([*command, "--only", engine], Path.cwd()) for _ in range(REPEATS)]
    return {
        "start_seconds": statistics.median(run.seconds for run in runs),
        "megabytes": max(run.megabytes for run in runs),
    }


def inference_text(results: Json) -> str:
    """The table and the ratios in Markdown; empty without results."""
    if not results:
        return ""
    engines = results["engines"]
    sizes = list(next(iter(engines.values()))["batches"])
    columns = [
        "engine",
        *(f"{size} image{'s' * (size != '1')}: p50 / p99 ms, images/s" for size in sizes),
        "process for one image, s",
        "memory, MB",
        "file, MB",
    ]
    lines = [
        f"Network `{results['network']}` trained on **{results['data']}**, {results['date']}, on {results['machine']}. "
        "All engines ran in alternation in one process.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
        *(_engine_row(name, row, results["bytes"][name]) for name, row in engines.items()),
        "",
        f"{_ratios(engines)} `make export` compared int8 with float at 64 images too: "
        f"{results['int8']['reason']}. Whole processes: `make export` took "
        f"{results['export_seconds']:.0f} s, `python -m pipeline.predict` {results['predict_seconds']:.2f} s for one "
        "image.",
    ]
    return "\n".join(lines)


def _engine_row(name: str, row: Json, size: int) -> str:
    latencies = [
        f"{each['p50_ms']:.2f} / {each['p99_ms']:.2f}, {each['images_per_second']:,}"
        for each in row["batches"].values()
    ]
    cells = [name, *latencies, f"{row['start_seconds']:.1f}", f"{row['megabytes']:,.0f}", f"{size / 1e6:.2f}"]
    return f"| {' | '.join(cells)} |"


def _ratios(engines: Json) -> str:
    one = {name: row["batches"]["1"]["p50_ms"] for name, row in engines.items()}
    many = {name: row["batches"]["64"]["images_per_second"] for name, row in engines.items()}
    best, int8 = "ONNX Runtime", "ONNX Runtime, int8"
    others = {name: many[name] / many[int8] for name in engines if name.startswith("OpenVINO, int8")}
    peer = "".join(f", and {name} is {ratio:.1f} times as fast as that" for name, ratio in others.items())
    return (
        f"For one image ONNX Runtime is {one['tf.function'] / one[best]:.1f} times as fast as `tf.function` and "
        f"{one['Keras predict'] / one[best]:.0f} times as fast as `predict`; for 64 images it is "
        f"{many[best] / many['Keras predict']:.1f} times as fast as `predict`, with int8 "
        f"{many[int8] / many[best]:.1f} times as fast as in float{peer}."
    )
