"""The bundle that is deployed: ONNX files, labels, test data, a manifest, checksums and a model card.

`pipeline.predict` reads bundles, so this module imports nothing heavy.
"""

import shutil
from pathlib import Path

from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, atomic_outputs, read_csv, read_json, sha256_of, write_json
from pipeline.registry.model_card import model_card

LAYOUT = 1  # major version of the bundle's layout
ONNX_FILE, INT8_FILE, LABELS = "model.onnx", "model.int8.onnx", "labels.txt"
MANIFEST, PLOTS = "manifest.json", "pictures"
TEST_DATA = {"test_data_set_0": 1, "test_data_set_1": 3, "test_data_set_2": 8}  # folders, and the images in each
COPIED = (ONNX_FILE, INT8_FILE, PLOTS, *TEST_DATA)  # from the registered version
PER_CLASS = "per_class.csv"  # in the registered version


def write_bundle(target: Path, version: Path, facts: Json) -> Path:
    """Write the folder `target` from a version's folder and its facts.json, with the model version in `lineage`.

    Equal arguments give equal bytes. The folder of another model is not overwritten.
    """
    refuse_other_model(target, facts["lineage"])
    classes = read_csv(version / PER_CLASS)
    with atomic_outputs(target) as (draft,):
        draft.mkdir()
        for source in (version / name for name in COPIED):
            if source.is_dir():
                shutil.copytree(source, draft / source.name)
            elif source.exists():  # a version may have no int8 copy
                shutil.copyfile(source, draft / source.name)
        (draft / LABELS).write_text("".join(f"{row['class_name']}\n" for row in classes))
        (draft / "README.md").write_text(model_card(target.name, facts, classes))
        write_json(draft / MANIFEST, {"layout": LAYOUT, "files": checksums(draft)} | facts)
        lines = (f"{entry['sha256']}  {name}\n" for name, entry in checksums(draft).items())
        (draft / "SHA256SUMS").write_text("".join(lines))
    return target


def checksums(folder: Path) -> dict[str, dict[str, object]]:
    """SHA-256 and size in bytes of every file in the folder, by its path relative to the folder."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for name, path in files.items()}


def read_bundle(folder: Path, *names: str) -> Json:
    """The manifest of a bundle; `PipelineError` if it has another layout, or a file of `names` another SHA-256."""
    remedy = "Copy the bundle again, or run `make export`."
    if not (folder / MANIFEST).is_file():
        raise PipelineError(f"{folder} is not a bundle: it has no {MANIFEST}. `make export` writes bundles to dist/.")
    manifest = read_json(folder / MANIFEST, remedy)
    if manifest.get("layout") != LAYOUT:
        raise PipelineError(
            f"{folder} has layout {manifest.get('layout')}, but this code reads layout {LAYOUT}. "
            "Use the code of the git commit in its manifest."
        )
    for name in names:
        expected = manifest["files"].get(name, {}).get("sha256")
        actual = sha256_of(folder / name) if (folder / name).is_file() else "missing"
        if actual != expected:
            raise PipelineError(
                f"{folder / name} is not the file in the manifest: its SHA-256 is {actual}, expected was {expected}. "
                f"{remedy}"
            )
    return manifest


def refuse_other_model(target: Path, lineage: Json) -> None:
    """Raise `PipelineError` if the folder holds another model: a new store counts versions from 1 again."""
    manifest, remedy = target / MANIFEST, "Move that folder away, then run `make export`."
    run_id = lineage["mlflow_run_id"]
    if manifest.exists() and (other := read_json(manifest, remedy)["lineage"]["mlflow_run_id"]) != run_id:
        raise PipelineError(
            f"{target} holds the model of MLflow run {other}, but this model is from run {run_id} of another store. "
            f"{remedy}"
        )
