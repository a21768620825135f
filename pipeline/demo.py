"""`make demo`: the whole DAG on generated images in a scratch folder: python -m pipeline.demo FOLDER

The same dvc.yaml and code as for CIFAR-10; only params.yaml is another. Runs are recorded in the
repository's own MLflow store, in the experiment `demo`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import PipelineError, one_message
from pipeline.files import remove, sha256_of
from pipeline.generated import TRAINING_BATCHES, write_archive
from pipeline.params import read_params
from pipeline.tracking import tracking_uri

IMAGES_PER_BATCH = 1_500
SEED = 0
ARCHIVE = "generated.tar.gz"
SECTIONS = {  # of params.yaml; evaluate and export stay as they are for CIFAR-10
    "prepare": {"validation_images": 1_000, "seed": SEED},
    "validate": {
        "train_images": TRAINING_BATCHES * IMAGES_PER_BATCH,
        "test_images": IMAGES_PER_BATCH,
        "channel_means": [0.495, 0.45, 0.405],
        "channel_spreads": [0.3, 0.28, 0.26],
        "tolerance": 0.02,
        "darkest": 0,
        "brightest": 255,
        "class_imbalance": 0.05,
        "minimum_image_spread": 0.01,
        "repeated_images": 0.001,
        "drift": 0.02,
    },
    "train": {"model": "basic", "epochs": 10, "batch_size": None, "learning_rate": None, "seed": SEED},
}


def demo(folder: Path) -> None:
    """Run every stage in `folder`, which is made anew, and print what came out.

    Raises:
        PipelineError: a stage failed; what it said stands above.
    """
    if folder.exists() and not (folder / ARCHIVE).exists():
        raise PipelineError(
            f"{folder} exists and is no earlier demo: it would be deleted. Name another folder, or `make demo`."
        )
    remove(folder)
    lay_out(folder)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking_uri(),  # this repository's, since the scratch folder is deleted next time
        "MLFLOW_EXPERIMENT_NAME": "demo",
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # dvc.yaml says `python`
    }
    for command in (["init", "--no-scm", "--quiet"], ["repro"]):
        if command == ["repro"]:
            shutil.copytree(".dvc/plots", folder / ".dvc/plots")  # which `dvc init` would not have there
        if subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, env=environment).returncode:
            raise PipelineError(
                f"`dvc {command[0]}` failed in {folder}; its own message stands above. `make demo` starts anew."
            )
    print(result_table(folder))


def lay_out(folder: Path) -> None:
    """Copy dvc.yaml and the code, write the archive and the params."""
    here = Path.cwd()
    folder.mkdir(parents=True)
    shutil.copy(here / "dvc.yaml", folder)
    shutil.copytree(here / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    (folder / "data/reference.json").write_text("{}\n")  # none: these images are compared with nothing
    archive = folder.resolve() / ARCHIVE
    write_archive(archive, IMAGES_PER_BATCH, SEED)
    params = read_params() | SECTIONS
    source = {"name": "generated images", "sha256": sha256_of(archive), "urls": [archive.as_uri()]}
    params["download"] = params["download"] | source
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def result_table(folder: Path) -> str:
    """What was made, and where it lies."""

    def figures(stage: str) -> dict[str, Any]:
        return json.loads((folder / "reports/metrics" / f"{stage}.json").read_text())

    validated, trained, evaluated, exported = map(figures, ("validate", "train", "evaluate", "export"))
    rows = [
        (
            "data",
            f"{validated['images']:,} generated images, {validated['expectations']} expectations met",
            "reports/data_docs/index.html",
        ),
        (
            "Keras model",
            f"validation accuracy {trained['validation_accuracy']:.1%} at epoch {trained['best_epoch']}",
            "models/model.keras",
        ),
        (
            "test",
            f"accuracy {evaluated['accuracy']:.1%} ({evaluated['accuracy_low']:.1%} to {evaluated['accuracy_high']:.1%})",
            "reports/plots/test/",
        ),
        (
            "ONNX model",
            f"{exported['bytes']:,} bytes, at most {exported['parity_max_abs_difference']:.0e} from Keras on {exported['parity_images']:,} images",
            "models/model.onnx",
        ),
    ]
    width = max(len(what) for _, what, _ in rows)
    lines = [f"  {name:<12} {what:<{width}}  {folder / where}" for name, what, where in rows]
    return "\n".join(
        [
            "",
            "Demo done:",
            *lines,
            "",
            "`.venv/bin/mlflow ui` shows the run in the experiment `demo`. `make repro` does the same on CIFAR-10.",
        ]
    )


if __name__ == "__main__":
    with one_message("demo"):
        demo(Path(sys.argv[1]))
