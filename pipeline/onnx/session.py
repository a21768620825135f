"""ONNX Runtime sessions, and predictions with them."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

from pipeline.common.errors import PipelineError, root_cause

INPUT, OUTPUT = "image", "probabilities"  # names in the graph


def open_session(model: Path | bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, from a file or its content; failures are raised, not logged.

    Args:
        threads: for each operation; 0 is one per core.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    # Its threads would spin for about 10 ms after each call, and slow down another session that is timed in turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def session_for(path: Path, class_names: list[str], archive_sha256: str) -> onnxruntime.InferenceSession:
    """A session; `PipelineError` if the model file is missing or damaged, or has other classes or another archive."""
    try:
        session = open_session(path)
    except Exception as error:  # ONNX Runtime has a class of its own for each kind of damage
        raise PipelineError(
            f"cannot read the ONNX model {path}: {root_cause(error)}. `dvc repro` restores or recreates it."
        ) from None
    metadata = session.get_modelmeta().custom_metadata_map
    for name, value in {"class_names": json.dumps(class_names), "archive_sha256": archive_sha256}.items():
        if metadata.get(name) != value:
            raise PipelineError(
                f"{path} was trained on other data: its {name} is {metadata.get(name)}, that of the splits is {value}. "
                "`dvc repro` brings model and splits together."
            )
    return session


def predict_probabilities(session: onnxruntime.InferenceSession, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Class probabilities, float32 (n, classes), of `images`, uint8 (n, side, side, 3), RGB, 0 to 255."""
    starts = range(0, len(images), batch_size)
    return np.concatenate([session.run([OUTPUT], {INPUT: images[i : i + batch_size]})[0] for i in starts])
