"""Files that all machines of a cluster read and write: in a shared folder, or in S3 by Apache Arrow.

S3 keys and the address of another S3 server are in AWS's own variables: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...
"""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from pyarrow import fs

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, sha256_of


class SharedFile(NamedTuple):
    """A file and the hash of its content: the address is a path or s3://BUCKET/KEY."""

    address: str
    sha256: str


def share(path: Path, sha256: str, folder: str | None) -> SharedFile:
    """Copy a file to a folder under its hash, if it is not there yet; without a folder it stays where it is."""
    if folder is None:
        return SharedFile(str(path.resolve()), sha256)
    address = f"{folder.rstrip('/')}/{sha256}{path.suffix}"
    if not exists(address):
        upload(path, address)
    return SharedFile(address, sha256)


def fetch(file: SharedFile) -> Path:
    """The file on this machine: itself in a shared folder, or a copy of the object; `PipelineError` if it differs."""
    path = Path(file.address)
    if file.address.startswith("s3://"):
        path = Path(tempfile.gettempdir()) / f"tune-{os.getuid()}" / path.name
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with atomic_outputs(path) as (draft,):
                download(file.address, draft)
    if not path.exists():
        raise PipelineError(
            f"{path} does not exist on this machine. Set tune.storage in params.yaml to a folder that all machines share, "
            "or to s3://BUCKET/PREFIX."
        )
    if (actual := sha256_of(path)) != file.sha256:
        raise PipelineError(f"{path} has the SHA-256 {actual}, but the command started with {file.sha256}.")
    return path


def exists(address: str) -> bool:
    """Whether there is a file."""
    system, path = opened(address)
    return system.get_file_info(path).type == fs.FileType.File


def upload(path: Path, address: str) -> None:
    """Write a file as a whole: readers see the old one or the new one."""
    system, target = opened(address)
    if isinstance(system, fs.LocalFileSystem):
        with atomic_outputs(Path(target)) as (draft,):
            fs.copy_files(str(path.resolve()), str(draft))
    else:
        fs.copy_files(str(path.resolve()), target, destination_filesystem=system)


def download(address: str, path: Path) -> None:
    """Copy the file to this machine."""
    system, source = opened(address)
    fs.copy_files(source, str(path.resolve()), source_filesystem=system, destination_filesystem=fs.LocalFileSystem())


def remove_folder(address: str) -> None:
    """Delete a folder with everything in it, if it exists."""
    system, path = opened(address)
    if system.get_file_info(path).type != fs.FileType.NotFound:
        system.delete_dir(path)


def opened(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it."""
    return fs.FileSystem.from_uri(address)
