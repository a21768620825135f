"""The trainings of `make seeds` on a cluster: each seed is a task of Ray, and MLflow gets a run of each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.common.errors import PipelineError
from pipeline.common.params import read_params
from pipeline.data.splits import read_split, require_validated
from pipeline.distributed import cluster
from pipeline.distributed.storage import SharedFile, fetch, remove_folder, share
from pipeline.distributed.training import checkpoint_at, train
from pipeline.training.checkpoint import UNFINISHED, checkpoint_path
from pipeline.training.settings import TrainParams, settings_of
from pipeline.tuning.settings import TuneParams

RETRIES = 5  # of a training whose process or machine died
Figures = dict[str, float]


class Job(NamedTuple):
    """What all trainings have in common; `unfinished` is the folder of their checkpoints."""

    settings: dict[str, Any]  # section train
    threads: int
    splits: dict[str, SharedFile]  # train, validation, test
    unfinished: str


class Trained(NamedTuple):
    """One training: a row per epoch, its seconds, its accuracies."""

    rows: list[Figures]
    seconds: float
    accuracies: Figures  # of the finished network


def trainings(
    count: int, address: str, train_split: Path, validation_split: Path, test_split: Path, verdict: Path
) -> Iterator[tuple[int, Figures]]:
    """Train with the seeds 0 to `count` - 1 on the cluster; yield each seed with its metrics as soon as it ends.

    CPUs, GPUs and storage are those of section `tune`. If the command was killed, trainings continue after their last
    whole epoch. MLflow gets the runs when all have ended, so it gets none twice.

    Raises:
        PipelineError: the splits were not validated, the cluster or the store cannot be used, or a training failed.
    """
    from pipeline.tracking import address as store_address
    from pipeline.tracking import lineage, store

    paths = {"train": train_split, "validation": validation_split, "test": test_split}
    validated, sections = require_validated(verdict, **paths), read_params()
    params = TuneParams.of_section("tune", sections.get("tune"))
    settings = TrainParams.of_section("train", sections.get("train")).model_dump()
    place = params.storage or str(store_address.repository_root() / UNFINISHED)
    name = "seeds-" + checkpoint_path(Path(), Path(__file__), settings, lineage.data_tags(validated)).stem
    splits = params.storage and f"{params.storage.rstrip('/')}/splits"
    shared = {split: share(path, validated["splits"][split], splits) for split, path in paths.items()}
    job = Job(settings, params.cpus, shared, f"{place}/{name}")
    store.connect()
    with cluster.connected(address, params.cpus, params.gpus):
        done = {}
        for seed, trained in ended(job, count, params):
            done[seed] = trained
            yield seed, trained.accuracies
    for seed, trained in sorted(done.items()):
        log(job, seed, trained, lineage.data_tags(validated) | lineage.code_tags())
    remove_folder(job.unfinished)


def ended(job: Job, count: int, params: TuneParams) -> Iterator[tuple[int, Trained]]:
    """Start all trainings; yield each one when it has ended."""
    import ray

    task = ray.remote(num_cpus=params.cpus, num_gpus=params.gpus, max_retries=RETRIES)(train_and_test)
    running = {task.remote(job, seed): seed for seed in range(count)}
    while running:
        (reference, *_), _ = ray.wait(list(running))
        seed = running.pop(reference)
        try:
            trained = ray.get(reference)
        except ray.exceptions.RayError as error:
            trained = str(error).strip().splitlines()[-1]
        if isinstance(trained, str):
            raise PipelineError(f"the training with seed {seed} failed: {trained}")
        yield seed, trained


def train_and_test(job: Job, seed: int) -> Trained | str:
    """Train with a seed, or continue; or the reason why that fails, which another attempt would give too."""
    params = TrainParams.of_section("train", job.settings | {"seed": seed})
    with checkpoint_at(f"{job.unfinished}/{seed}.npz") as (checkpoint, store):
        try:
            splits = job.splits["train"], job.splits["validation"]
            model, rows, seconds = train(params, job.threads, *splits, store, checkpoint)
        except PipelineError as error:
            return str(error)
    from pipeline.training.fit import accuracy_and_loss

    accuracies = {
        f"{name}_accuracy": accuracy_and_loss(model, read_split(fetch(job.splits[name])))[0]
        for name in ("validation", "test")
    }
    return Trained(rows, seconds, accuracies)


def log(job: Job, seed: int, trained: Trained, tags: dict[str, str]) -> None:
    """An MLflow run of a training; without a model, so it never competes in `make export`."""
    from pipeline.tracking import run_logging, runs

    settings = settings_of(TrainParams.of_section("train", job.settings | {"seed": seed}))
    own = {"model": job.settings["model"], "mlflow.runName": f"seed-{seed}"}
    with runs.training_run(tags | own) as record:
        import mlflow  # only now: `training_run` has set the variables that it reads

        record(mlflow.log_params, {f"train.{key}": value for key, value in settings.items()})
        for row in trained.rows:
            record(run_logging.log_epoch, row)
        record(mlflow.log_metric, "best_validation_accuracy", trained.accuracies["validation_accuracy"])
        record(mlflow.log_metric, "test_accuracy", trained.accuracies["test_accuracy"])
        record(mlflow.log_metric, "train_seconds", trained.seconds)
