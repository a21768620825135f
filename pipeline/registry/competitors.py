"""The MLflow runs that compete to become champion: finished, on the same data, and whole."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pipeline.common.errors import PipelineError, printable
from pipeline.onnx.isolated import UnusableModel
from pipeline.registry.artifacts import name_of
from pipeline.registry.bundle import ONNX_FILE, PER_CLASS, PLOTS
from pipeline.tracking.address import displayed_uri, sqlite_file
from pipeline.tracking.database import refresh_statistics
from pipeline.tracking.store import experiment_id
from pipeline.tracking.store_errors import cause_of, explain_store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ARTIFACTS = {ONNX_FILE, PER_CLASS, PLOTS}
HASHES, TEXTS = ("onnx_sha256", "model_sha256"), ("model", "data")  # tags
SHARES = (  # metrics, 0 to 1
    "best_validation_accuracy",
    *("test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("test_macro_f1", "test_calibration_error", "parity_max_abs_difference"),
)
METRICS = (*SHARES, "test_images")
MAXIMUM_TEXT = 200  # characters
PAGE = 50  # runs of one request


def competing_runs(client: "MlflowClient", data: dict[str, str]) -> Iterator["Run"]:
    """The finished runs on this data that passed parity, best validation accuracy first; `PipelineError` if none.

    A store may have many runs: they come in pages, and the files of a run are listed only when its turn comes.
    """
    if file := sqlite_file():
        with explain_store_errors():
            refresh_statistics(file)
    is_empty = True
    for run in _finished_runs(client, data):
        if has_artifacts(client, run):
            is_empty = False
            yield run
    if is_empty:
        raise PipelineError(
            f"{displayed_uri()} has no finished run with an exported model on the current data (archive "
            f"{data['archive_sha256'][:8]}). Run `make repro`; if the results exist but this store does not have them, "
            "run `dvc repro --force --single-item evaluate export`. Then run `make export`."
        )


def _finished_runs(client: "MlflowClient", data: dict[str, str]) -> Iterator["Run"]:
    usable = "attributes.status = 'FINISHED' and tags.parity_passed = 'true' and metrics.best_validation_accuracy >= 0"
    search = partial(
        client.search_runs,
        [experiment_id(client)],
        " and ".join([usable, *(f"tags.{name} = '{value}'" for name, value in data.items())]),
        max_results=PAGE,
        order_by=["metrics.best_validation_accuracy DESC", "start_time ASC"],
    )
    page = None
    while page is None or page.token:
        with explain_store_errors():
            page = search(page_token=None if page is None else page.token)
        yield from page


def has_artifacts(client: "MlflowClient", run: "Run") -> bool:
    """Whether a run has the files of a run that competes; prints why, if they cannot be listed."""
    try:
        return {item.path for item in client.list_artifacts(run.info.run_id)} >= ARTIFACTS
    except Exception as error:  # another's run: each kind of artifact store fails in its own way
        print(f"promote: {name_of(run)} is skipped: its files cannot be listed: {cause_of(error)}")
        return False


def require_facts(run: "Run") -> None:
    """Raise `UnusableModel` if a tag or a metric that a version needs is missing, or is not as export writes it."""
    tags, metrics = run.data.tags, run.data.metrics
    if missing := [*({*HASHES, *TEXTS} - {*tags}), *({*METRICS} - {*metrics})]:
        raise UnusableModel(f"it has no tag or metric {', '.join(sorted(missing))}")
    odd = {name: tags[name] for name in HASHES if not re.fullmatch("[0-9a-f]{64}", tags[name])}
    odd |= {name: value for name, value in tags.items() if is_shown(name) and not is_short_text(value)}
    odd |= {name: value for name, value in tags.items() if name.startswith("dvc.") and not is_json_object(value)}
    odd |= {name: str(metrics[name]) for name in SHARES if not 0 <= metrics[name] <= 1}  # NaN is not, too
    if not metrics["test_images"] > 0:
        odd["test_images"] = str(metrics["test_images"])
    for name, value in odd.items():
        raise UnusableModel(f"its {printable(name, 100)} is {printable(value, 100)}, which export does not write")


def is_shown(tag: str) -> bool:
    return tag in (*TEXTS, "git_commit", "git_dirty") or tag.startswith("library.")


def is_short_text(value: str) -> bool:
    return 0 < len(value) <= MAXIMUM_TEXT and value.isprintable()


def is_json_object(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False
