"""`make score`: classify many pictures with a bundle, on Ray: python -m pipeline.score DIST BUNDLE IN OUT

IN and OUT are folders or s3://BUCKET/PREFIX; IN may have Parquet files. BUNDLE "" is the last one in DIST.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.errors import PipelineError, exit_on_error, printable
from pipeline.distributed import cluster
from pipeline.distributed.scoring import Model, scores
from pipeline.distributed.sources import files_below
from pipeline.distributed.storage import SharedFile, remove_folder, share
from pipeline.models.keras_backend import filtered_stderr
from pipeline.registry.bundle_model import latest_bundle, model_of_bundle

RAYS_NOTE = "has constructor arguments in the object store"  # Ray Data (2.60) causes it itself
MODEL = "_model"  # folder of the ONNX file in OUT, for the processes of Ray


def score(bundle: Path, source: str, target: str) -> None:
    """Write Parquet files with the columns file, class, probabilities and error; one that was interrupted continues.

    A file that cannot be read costs its row.

    Raises:
        PipelineError: bundle, IN, OUT or cluster cannot be used.
    """
    for name, value in {"IN": source, "OUT": target}.items():
        if not value:
            raise PipelineError(f"{name} is missing. Run `make score IN=pictures OUT=scores`.")
    source, target = (value if value.startswith("s3://") else str(Path(value).resolve()) for value in (source, target))
    with model_of_bundle(bundle) as (model, class_names, content):
        side = model.side
    files = files_below(source)
    pictures = failures = 0
    ray = cluster.connected(os.environ.get("RAY_ADDRESS"), 1, 0)
    with filtered_stderr(RAYS_NOTE), shared(content, f"{target}/{MODEL}") as file, ray:
        for done, failed in scores(files, source, target, Model(file, class_names, side)):
            pictures, failures = pictures + done, failures + failed
            if sys.stderr.isatty():
                print(f"\rscore: {pictures:,} pictures", end="", file=sys.stderr)
    print(f"score: {pictures:,} pictures, {failures:,} of them cannot be read, in {printable(target)}")


@contextmanager
def shared(content: bytes, folder: str) -> Iterator[SharedFile]:
    """The ONNX file in a folder that all machines reach, removed after the block."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as draft:
        Path(draft.name).write_bytes(content)
        file = share(Path(draft.name), hashlib.sha256(content).hexdigest(), folder)
    try:
        yield file
    finally:
        remove_folder(folder)


if __name__ == "__main__":
    with exit_on_error("score"):
        dist, chosen, *places = sys.argv[1:]
        score(Path(chosen) if chosen else latest_bundle(Path(dist)), *places)
