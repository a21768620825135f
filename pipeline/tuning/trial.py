"""One trial, in a process of Ray: a training that reports each epoch, and continues where an earlier process ended."""

from typing import Any, NamedTuple

from pipeline.common.errors import PipelineError
from pipeline.distributed.storage import SharedFile
from pipeline.training.checkpoint import Checkpoint
from pipeline.tuning.settings import TuneParams, epochs_of, train_params
from pipeline.tuning.training import checkpoint_at, train


class Job(NamedTuple):
    """What all trials of a search have in common; `unfinished` is the folder of their checkpoints."""

    params: TuneParams
    training: SharedFile
    validation: SharedFile
    unfinished: str


def run_trial(chosen: dict[str, Any], job: Job) -> None:
    """Train with the chosen values. Ray ends the thread in a report if the scheduler stops the trial.

    The checkpoint of an epoch is in the storage before its report, so no epoch is trained again, whichever process
    dies. A new process first repeats the reports, because the driver may have died before it received them.
    """
    from ray import tune

    epochs = epochs_of(job.params, chosen)
    with checkpoint_at(f"{job.unfinished}/{tune.get_context().get_trial_id()}.npz") as (checkpoint, store):
        rows = checkpoint.rows if checkpoint else []
        for done in range(1, len(rows) + 1):
            tune.report(figures_of(rows[:done], epochs) | {"seconds": checkpoint.seconds if checkpoint else 0.0})
        if len(rows) == epochs:
            return

        def end_epoch(state: Checkpoint) -> None:
            store(state)
            tune.report(figures_of(state.rows, epochs) | {"seconds": state.seconds})

        try:
            train(
                train_params(job.params, chosen), job.params.cpus, job.training, job.validation, end_epoch, checkpoint
            )
        except PipelineError as error:  # with these values it would fail again
            tune.report({"error": str(error), "best_validation_accuracy": 0.0, "percent": 100})


def figures_of(rows: list[dict[str, float]], epochs: int) -> dict[str, float]:
    """The report of the last row; `percent` of the trial's epochs is the time at which trials are compared."""
    best = max(row["validation_accuracy"] for row in rows)
    return rows[-1] | {"percent": round(100 * len(rows) / epochs), "best_validation_accuracy": best}
