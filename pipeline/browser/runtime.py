"""ONNX Runtime Web from the npm registry, pinned by version and hash."""

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pipeline.common.errors import PipelineError, printable

PACKAGE = "onnxruntime-web@1.23.2"
SHA512 = (  # of the package as a file
    "4f4f4952d327f8264b937985c2a887d258107fee12efea181c7b64eae85a6000"
    "0923de5b4dc2a2e5b38e658c0e4577d2fd12d90a30c311719622e3820059448e"
)
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # 12 MB in its folder dist


def write_runtime(folder: Path) -> None:
    """Write `FILES` into the folder.

    Raises:
        PipelineError: npm is missing or fails, or serves another package than the pinned one.
    """
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(download(Path(scratch))) as package:
        for name in FILES:
            (folder / name).write_bytes(package.extractfile(f"package/dist/{name}").read())  # type: ignore[union-attr]


def download(folder: Path) -> Path:
    """The package as a file in the folder, by the user's own npm, so that its mirrors and logins count."""
    command = ["npm", "pack", "--silent", PACKAGE]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise PipelineError(
            f"npm was not found, which downloads {PACKAGE}. Install Node.js, then run `make page`."
        ) from None
    package = next(folder.glob("*.tgz"), None)
    if done.returncode or package is None:
        reason = printable(done.stderr.strip(), 500) or "it wrote no file"
        raise PipelineError(f"`{' '.join(command)}` failed: {reason}. Check `npm config get registry`.")
    if (found := hashlib.sha512(package.read_bytes()).hexdigest()) != SHA512:
        raise PipelineError(
            f"{PACKAGE} has the SHA-512 {found}, expected was {SHA512}: the registry serves another package. Check "
            "`npm config get registry`."
        )
    return package
