"""`make demo`: the whole DAG on generated images in a scratch folder: python -m pipeline.demo FOLDER

dvc.yaml and the code are those for CIFAR-10; only params.yaml differs. Runs are recorded in the
repository's own MLflow store, in the experiment `demo`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.files import Json, exclusive, read_json, remove, sha256_of
from pipeline.common.params import read_params
from pipeline.data.synthetic import TRAINING_BATCHES, write_archive
from pipeline.tracking.address import portable_uri, require_usable_address

IMAGES_PER_BATCH = 1_500
SEED = 0
ARCHIVE = "generated.tar.gz"
SECTIONS: dict[str, Json] = {  # of params.yaml; evaluate and export stay as they are for CIFAR-10
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
    "train": {
        "model": "basic",
        "epochs": 10,
        "batch_size": None,
        "learning_rate": None,
        "class_weight": None,
        "flip": None,
        "shift": None,
        "cutout": None,
        "smoothing": None,
        "seed": SEED,
    },
}


def demo(folder: Path) -> None:
    """Run every stage in `folder`, which is created again, and print the results.

    Raises:
        PipelineError: a stage failed, and its message is printed above; or MLflow cannot use its store.
    """
    require_usable_address()
    if folder.exists() and not (folder / ARCHIVE).exists():
        raise PipelineError(
            f"{folder} exists and is not an earlier demo, so it is not deleted. Run `make demo`, which uses .demo/, or "
            "choose another folder."
        )
    remove(folder)
    lay_out(folder)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": portable_uri(),  # the repository's store, because the next demo deletes the folder
        "MLFLOW_EXPERIMENT_NAME": "demo",
        "DVC_NO_ANALYTICS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # dvc.yaml runs `python`
    }
    for command in (["init", "--no-scm", "--quiet"], ["repro"]):
        if command == ["repro"]:
            shutil.copytree(".dvc/plots", folder / ".dvc/plots")  # only now: `dvc init` creates .dvc
        if subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, env=environment).returncode:
            raise PipelineError(
                f"`dvc {command[0]}` failed in {folder}; its message is above. `make demo` starts from the beginning."
            )
    print(result_table(folder))


def lay_out(folder: Path) -> None:
    """Copy DVC's files and the code; write the archive and params.yaml."""
    folder.mkdir(parents=True)
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(name, folder)
    shutil.copytree("pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    (folder / "data/reference.json").write_text("{}\n")  # no reference: these images are not compared
    archive = folder.resolve() / ARCHIVE
    write_archive(archive, IMAGES_PER_BATCH, SEED)
    params = read_params() | SECTIONS
    source = {"name": "generated images", "sha256": sha256_of(archive), "urls": [archive.as_uri()]}
    params["download"] = params["download"] | source
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def result_table(folder: Path) -> str:
    """The results and their files."""
    validated, trained, evaluated, exported = (
        read_json(folder / f"reports/metrics/{stage}.json", "Run `make demo` again.")
        for stage in ("validate", "train", "evaluate", "export")
    )
    interval = f"{evaluated['accuracy_low']:.1%} to {evaluated['accuracy_high']:.1%}"
    rows = {
        "data": (
            f"{validated['images']:,} generated images, {validated['expectations']} expectations met",
            "reports/data_docs/index.html",
        ),
        "Keras model": (
            f"validation accuracy {trained['validation_accuracy']:.1%} at epoch {trained['best_epoch']}",
            "models/model.keras",
        ),
        "test": (f"accuracy {evaluated['accuracy']:.1%} ({interval})", "reports/plots/test/"),
        "ONNX model": (
            f"{exported['bytes']:,} bytes, at most {exported['parity_max_abs_difference']:.0e} from Keras on "
            f"{exported['parity_images']:,} images",
            "models/model.onnx",
        ),
    }
    width = max(len(result) for result, _ in rows.values())
    lines = [f"  {name:<12} {result:<{width}}  {folder / file}" for name, (result, file) in rows.items()]
    return "\n".join(["", "Demo done:", *lines, "", "`make ui` shows the run. `make repro` does the same on CIFAR-10."])


if __name__ == "__main__":
    with exit_on_error("demo"), exclusive("demo"):
        demo(Path(sys.argv[1]))
