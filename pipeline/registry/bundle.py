"""The bundle that is deployed: ONNX files, labels, test data, a manifest, checksums and a model card.

`pipeline.predict` reads bundles, so this module imports nothing heavy.
"""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

from pipeline.common.errors import PipelineError, printable, root_cause
from pipeline.common.files import Json, atomic_outputs, read_csv, sha256_of, write_json
from pipeline.data.pictures import PREPROCESSING
from pipeline.registry.model_card import model_card

LAYOUT = 1  # major version of the bundle's layout
ONNX_FILE, INT8_FILE, LABELS = "model.onnx", "model.int8.onnx", "labels.txt"
MANIFEST, PLOTS = "manifest.json", "pictures"
TEST_DATA = {"test_data_set_0": 1, "test_data_set_1": 3, "test_data_set_2": 8}  # folders, and the images in each
COPIED = (ONNX_FILE, INT8_FILE, PLOTS, *TEST_DATA)  # from the registered version
PER_CLASS, FACTS = "per_class.csv", "facts.json"  # in the registered version; FACTS: what the manifest will contain
MAXIMUM_BYTES = 200_000_000  # of an ONNX file; a version has no more, and other files of a bundle have 2 MB
REMEDY = "Copy the bundle again, or run `make export`."
USE_ITS_CODE = "Use the code of the git commit in its manifest."


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
            elif source.exists() or source.name != INT8_FILE:  # a version may have no int8 copy
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


def read_bundle(folder: Path, *names: str) -> dict[str, bytes]:
    """The content of these files of a bundle; `PipelineError` if one has another SHA-256 than in the manifest.

    What is returned is what was hashed: use it, and do not read the files again.
    """
    if not (folder / MANIFEST).is_file():
        raise PipelineError(f"{folder} is not a bundle: it has no {MANIFEST}. `make export` writes bundles to dist/.")
    manifest = read_manifest(folder / MANIFEST)
    if (layout := manifest.get("layout")) != LAYOUT:
        shown = printable(str(layout), 40) if isinstance(layout, int | str) else f"of type {type(layout).__name__}"
        raise PipelineError(f"{folder} has layout {shown}, but this code reads layout {LAYOUT}. {USE_ITS_CODE}")
    if objection := unknown_preprocessing(manifest.get("preprocessing", PREPROCESSING)):  # earlier code wrote none
        raise PipelineError(f"{folder / MANIFEST} has {objection}. {USE_ITS_CODE}")
    contents = {name: read_bounded(folder / name) for name in names}
    for name, content in contents.items():
        actual, expected = hashlib.sha256(content).hexdigest(), expected_sha256(manifest, name)
        if actual != expected:
            raise PipelineError(
                f"{folder / name} is not the file in the manifest: its SHA-256 is {actual}, "
                f"expected was {printable(str(expected), 100)}. {REMEDY}"
            )
    return contents


def unknown_preprocessing(value: object) -> str:
    """The objection to what makes pictures the input of a model, if it is not what this code does; empty otherwise."""
    if value == PREPROCESSING:
        return ""
    shown = f'"{printable(value, 100)}"' if isinstance(value, str) else f"of type {type(value).__name__}"
    return f'the preprocessing {shown}, but the only one that this code knows is "{PREPROCESSING}"'


def read_manifest(path: Path) -> Json:
    """The content of a manifest; `PipelineError` if it is not an object in JSON."""
    try:
        content = json.loads(read_bounded(path))
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path} is damaged: {printable(root_cause(error), 200)}. {REMEDY}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} is damaged: it is a {type(content).__name__}, expected was an object. {REMEDY}")
    return content


def expected_sha256(manifest: Json, name: str) -> object:
    """The SHA-256 of a file in a manifest; None if it is not there."""
    files = manifest.get("files")
    entry = files.get(name) if isinstance(files, dict) else None
    sha256 = entry.get("sha256") if isinstance(entry, dict) else None
    return sha256 if isinstance(sha256, str) else None


def read_bounded(path: Path) -> bytes:
    """The content of a regular file of at most `MAXIMUM_BYTES`; `PipelineError` for anything else."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a FIFO would wait for a writer
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise PipelineError(f"{path} is not a regular file. {REMEDY}")
            limit = MAXIMUM_BYTES if path.suffix == ".onnx" else MAXIMUM_BYTES // 100
            content = file.read(limit + 1)
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}. {REMEDY}") from None
    if len(content) > limit:
        raise PipelineError(f"{path} is larger than {limit / 1e6:,.0f} MB. {REMEDY}")
    return content


def refuse_other_model(target: Path, lineage: Json) -> None:
    """Raise `PipelineError` if the folder holds another model: a new store counts versions from 1 again."""
    remedy = "Move that folder away, then run `make export`."
    run_id = lineage["mlflow_run_id"]
    if not (target / MANIFEST).exists():
        return
    earlier = read_manifest(target / MANIFEST).get("lineage")
    other = earlier.get("mlflow_run_id") if isinstance(earlier, dict) else None
    if other != run_id:
        raise PipelineError(
            f"{target} holds the model of MLflow run {printable(str(other), 100)}, but this model is from run {run_id} "
            f"of another store. {remedy}"
        )
