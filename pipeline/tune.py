"""Tune stage, `make tune`: a search for good settings of train, on Ray. It reads the train and validation splits."""

import os
from pathlib import Path

from pipeline.common.files import atomic_outputs, write_csv, write_json
from pipeline.common.params import run_stage
from pipeline.data.splits import require_validated
from pipeline.models.keras_backend import start_keras
from pipeline.training.checkpoint import UNFINISHED, checkpoint_path
from pipeline.tuning.settings import TuneParams

SEARCH_TAG = "tune.search"


def tune(
    params: TuneParams,
    train_split: Path,
    validation_split: Path,
    verdict: Path,
    best_params: Path,
    trials: Path,
    coordinates: Path,
    times: Path,
) -> None:
    """Search; write the best values, a table of the trials and two plots. RAY_ADDRESS names a cluster.

    Each trial is an MLflow run, nested in the run of the search. A search that was killed continues.

    Raises:
        PipelineError: the splits were not validated, the MLflow store or the cluster cannot be used, or no trial
            finished.
    """
    validated = require_validated(verdict, train=train_split, validation=validation_split)
    start_keras()
    from pipeline.distributed import cluster, storage
    from pipeline.tracking import address, lineage, runs, store
    from pipeline.tuning.trial import Job

    data = lineage.data_tags(validated)
    settings = params.model_dump(exclude={"cpus", "gpus", "storage"})
    name = "tune-" + checkpoint_path(Path(), Path(__file__), settings, data).stem
    place = params.storage or str(address.repository_root() / UNFINISHED)
    splits = params.storage and f"{params.storage.rstrip('/')}/splits"
    training = storage.share(train_split, validated["splits"]["train"], splits)
    validation = storage.share(validation_split, validated["splits"]["validation"], splits)
    job = Job(params, training, validation, f"{place}/{name}/unfinished")
    tags = data | lineage.code_tags() | {"model": params.model}
    with (
        cluster.connected(os.environ.get("RAY_ADDRESS"), params.cpus, params.gpus),
        runs.training_run(tags | {SEARCH_TAG: name}, runs.unfinished_run(SEARCH_TAG, name)) as record,
    ):
        import mlflow

        from pipeline.tuning import results  # only now: `connected` has set the variables that Ray reads
        from pipeline.tuning.search import search
        from pipeline.tuning.trial_runs import TrialRuns

        record(mlflow.log_params, {f"tune.{key}": value for key, value in settings.items()})
        trial_runs = TrialRuns(params, record.run_id, store.experiment_id(mlflow.MlflowClient()), tags)
        print(f"tune: {params.trials} trials of {params.model}", flush=True)
        found = search(params, name, place, job, trial_runs)
        trial_runs.settle(found)
        rows = results.rows_of(params, found)
        best = results.best_of(params, rows)
        with atomic_outputs(best_params, trials, coordinates, times) as drafts:
            write_json(drafts[0], best)
            write_csv(drafts[1], rows)
            results.draw_parallel_coordinates(params, rows, drafts[2])
            results.draw_accuracy_against_time(params, rows, drafts[3])
        for path in (best_params, trials, coordinates, times):
            record(mlflow.log_artifact, str(path))
        record(mlflow.log_metric, "best_validation_accuracy", best[results.ACCURACY])
    storage.remove_folder(f"{place}/{name}")
    print(results.describe(params, rows, best))


if __name__ == "__main__":
    run_stage(tune, TuneParams)
