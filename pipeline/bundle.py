"""The bundle that is deployed: ONNX files, labels, test data, a manifest, checksums and a model card."""

import csv
import shutil
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json, sha256_of, whole, write_json
from pipeline.model_card import model_card

LAYOUT = 1  # major version of the bundle's layout
CONTENT = ("model.onnx", "model.int8.onnx", "pictures", "test_data_set_0", "test_data_set_1", "test_data_set_2")
MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"


def write_bundle(target: Path, version: Path, facts: dict[str, Any]) -> Path:
    """Write the folder `target`; equal arguments give equal bytes, and another model's folder is not overwritten.

    Args:
        version: folder of a registered version, as pipeline.candidate wrote it.
        facts: its facts.json, with the model version in `lineage`.
    """
    refuse_another(target, facts["lineage"])
    with (version / "per_class.csv").open(newline="") as table:
        classes = list(csv.DictReader(table))
    with whole(target) as (draft,):
        draft.mkdir()
        for source in (version / name for name in CONTENT):
            if source.is_dir():
                shutil.copytree(source, draft / source.name)
            elif source.exists():  # int8 is there only where it earned its place
                shutil.copyfile(source, draft / source.name)
        (draft / "labels.txt").write_text("".join(f"{row['class_name']}\n" for row in classes))
        (draft / "README.md").write_text(model_card(target.name, facts, classes))
        write_json(draft / MANIFEST, {"layout": LAYOUT, "files": checksums(draft)} | facts)
        lines = [f"{entry['sha256']}  {name}\n" for name, entry in checksums(draft).items()]
        (draft / CHECKSUMS).write_text("".join(lines))
    return target


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and bytes of every file below the folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in files
    }


def read_bundle(folder: Path, *names: str) -> dict[str, Any]:
    """The manifest of a bundle, whose files `names` are the ones that it lists.

    Raises:
        PipelineError: there is no bundle, its layout is another one, or a file was changed.
    """
    if not (folder / MANIFEST).is_file():
        raise PipelineError(f"{folder} is no bundle: it has no {MANIFEST}. `make export` writes bundles to dist/.")
    manifest = read_json(folder / MANIFEST, "Copy the bundle anew, or run `make export`.")
    if manifest.get("layout") != LAYOUT:
        raise PipelineError(
            f"{folder} has layout {manifest.get('layout')}, but this code reads layout {LAYOUT}. "
            "Use the code of the commit that its manifest names."
        )
    for name in names:
        expected = manifest["files"].get(name, {}).get("sha256")
        actual = sha256_of(folder / name) if (folder / name).is_file() else "missing"
        if actual != expected:
            raise PipelineError(
                f"{folder / name} is not the file of the manifest: its SHA-256 is {actual}, there stands {expected}. "
                "Copy the bundle anew, or run `make export`."
            )
    return manifest


def refuse_another(target: Path, lineage: dict[str, Any]) -> None:
    """Raise `PipelineError` where the folder holds another model: a new store counts versions from 1 again."""
    manifest = target / MANIFEST
    if not manifest.exists():
        return
    theirs = read_json(manifest, "Move that folder away, then run `make export`.")["lineage"]
    if theirs["mlflow_run_id"] != lineage["mlflow_run_id"]:
        raise PipelineError(
            f"{target} holds the model of MLflow run {theirs['mlflow_run_id']}, this one is of run "
            f"{lineage['mlflow_run_id']} in another store. Move that folder away, then run `make export`."
        )
