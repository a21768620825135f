"""Files of runs and model versions, which others may have made: downloaded within bounds, and verified."""

import hashlib
import json
import resource
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.common.errors import PipelineError, printable
from pipeline.onnx.isolated import UnusableModel
from pipeline.registry.bundle import COPIED, FACTS, MAXIMUM_BYTES, PER_CLASS, checksums
from pipeline.tracking.store_errors import cause_of, store_errors

if TYPE_CHECKING:
    from mlflow.entities import FileInfo, Run
    from mlflow.entities.model_registry import ModelVersion

REGISTERED_NAME = "cifar10-classifier"
CONTENT = (*COPIED, PER_CLASS, FACTS)  # files and folders of a version
CONTENT_TAG = "content_sha256"
MAXIMUM_FILES = 200  # of a version


def name_of(run: "Run") -> str:
    """The run in messages."""
    return f"MLflow run {printable(str(run.info.run_name), 100)} ({run.info.run_id})"


def content_sha256(model: Path) -> str:
    """One hash for all files of a version from which a bundle is made."""
    content = {name: file["sha256"] for name, file in checksums(model).items() if name.split("/")[0] in CONTENT}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def fetch_version(version: "ModelVersion") -> Iterator[Path]:
    """A temporary folder with a version's files.

    `UnusableModel` if they were changed, not registered here, or if the block fails on them.
    """
    owner = f"version {version.version} of {REGISTERED_NAME}"
    if CONTENT_TAG not in version.tags:
        raise UnusableModel(f"{owner} was not registered by this `make export`: it has no tag {CONTENT_TAG}")
    uri = f"models:/{REGISTERED_NAME}/{version.version}"
    with tempfile.TemporaryDirectory() as folder, explain_damage(owner):
        require_small(version_files(uri), owner)
        files = download(uri, Path(folder), owner)
        require_same(content_sha256(files), version.tags[CONTENT_TAG], owner)
        yield files


@contextmanager
def refuse_unusable(version: "ModelVersion", remedy: str) -> Iterator[None]:
    """Turn `UnusableModel` into a `PipelineError` with the remedy: without this version nothing can be done."""
    try:
        yield
    except UnusableModel as error:
        owner = f"version {version.version} of {REGISTERED_NAME}"
        raise PipelineError(f"{owner} cannot be used: {error}. {remedy}") from None


@contextmanager
def explain_damage(owner: str) -> Iterator[None]:
    """Turn a failure on files that others made into `UnusableModel`; a full disk and our own errors stay."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # a damaged file can raise anything
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | IsADirectoryError):
            raise
        reason = f"{type(error).__name__}: {cause_of(error)}"
        raise UnusableModel(f"the files of {owner} are damaged or incomplete: {reason}") from None


def version_files(uri: str, depth: int = 3) -> Iterator["FileInfo"]:
    """The files under an MLflow URI and its subfolders."""
    import mlflow

    for item in mlflow.artifacts.list_artifacts(uri):
        if not item.is_dir:
            yield item
        elif depth:
            yield from version_files(f"{uri}/{item.path.split('/')[-1]}", depth - 1)


def require_small(files: Iterable["FileInfo"], owner: str) -> None:
    """Raise `UnusableModel` if files have too many bytes, before they are downloaded."""
    size = 0
    for number, file in enumerate(files, 1):
        size += file.file_size or 0
        if size > MAXIMUM_BYTES or number > MAXIMUM_FILES:
            raise UnusableModel(
                f"{owner} has {size / 1e6:,.0f} MB in {number} files, or more; at most {MAXIMUM_BYTES / 1e6:,.0f} MB "
                f"in {MAXIMUM_FILES} files are read"
            )


def download_artifact(run: "Run", name: str, folder: Path) -> Path:
    """Download a file of a run, such as "pictures/a.png", to `folder`; `UnusableModel` if it is missing or too large."""
    import mlflow

    with explain_damage(name_of(run)):
        listed = mlflow.MlflowClient().list_artifacts(run.info.run_id, str(Path(name).parent).strip("."))
        found = [item for item in listed if item.path == name and not item.is_dir]
        if not found:
            raise UnusableModel(f"it has no file {name}")
        require_small(found, f"its {name}")
        return download(f"runs:/{run.info.run_id}/{name}", (folder / name).parent, "it")


def download(uri: str, folder: Path, owner: str) -> Path:
    """Download what is stored under an MLflow URI to `folder`; `UnusableModel` if that fails."""
    import mlflow

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = min(limits[0] % (1 << 64), MAXIMUM_BYTES)  # no limit is -1
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))  # a store can announce another size
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except store_errors() as error:
        raise UnusableModel(f"the files of {owner} cannot be read: {cause_of(error)}") from None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def require_same(actual: str, expected: str, owner: str) -> None:
    """Raise `UnusableModel` if the SHA-256 of files is not the recorded one."""
    if actual != expected:
        raise UnusableModel(
            f"the files of {owner} were changed: their SHA-256 is {actual}, recorded was {printable(expected, 100)}"
        )
