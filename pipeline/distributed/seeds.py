"""The trainings of `make seeds` on a cluster: each seed is a task of Ray, and MLflow gets a run of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.common.errors import PipelineError
from pipeline.common.params import read_params
from pipeline.data.splits import read_split, require_validated
from pipeline.distributed import cluster
from pipeline.distributed.storage import SharedFile, fetch, remove_folder, share
from pipeline.training.checkpoint import UNFINISHED, checkpoint_path
from pipeline.training.settings import TrainParams, settings_of
from pipeline.tuning.settings import TuneParams
from pipeline.tuning.training import checkpoint_at, train

PROGRAM = Path(__file__).parents[1] / "seeds.py"  # a checkpoint belongs to the code that it imports
TRAINING_TAG = "seeds.training"
RETRIES = 5  # of a training whose process or machine died, or that could not reach the storage
Figures = dict[str, float]


class Job(NamedTuple):
    """What all trainings have in common; `unfinished` is the folder of their checkpoints."""

    settings: dict[str, Any]  # section train without seed
    threads: int
    splits: dict[str, SharedFile]  # train, validation, test
    unfinished: str


class Trained(NamedTuple):
    """One training: a row per epoch, its seconds, its accuracies."""

    rows: list[Figures]
    seconds: float
    accuracies: Figures  # of the finished network


@contextmanager
def trainings(
    count: int, address: str, train_split: Path, validation_split: Path, test_split: Path, verdict: Path
) -> Iterator[Iterator[tuple[int, Figures]]]:
    """Train with the seeds 0 to `count` - 1 on the cluster; yields each seed with its accuracies as soon as it ends.

    CPUs, GPUs and storage are those of section `tune`. After the block MLflow gets a run of each training, and the
    checkpoints are removed. If the command was killed before, trainings continue after their last whole epoch, and
    MLflow gets no run twice.

    Raises:
        PipelineError: the splits were not validated, the cluster or the store cannot be used, or a training failed.
    """
    from pipeline.tracking import address as store_address
    from pipeline.tracking import lineage, store

    paths = {"train": train_split, "validation": validation_split, "test": test_split}
    validated, sections = require_validated(verdict, **paths), read_params()
    params = TuneParams.of_section("tune", sections.get("tune"))
    settings = TrainParams.of_section("train", sections.get("train")).model_dump(exclude={"seed"})
    place = params.storage or str(store_address.repository_root() / UNFINISHED)
    tags = lineage.data_tags(validated) | lineage.code_tags()
    name = f"seeds-{checkpoint_path(Path(), PROGRAM, settings, lineage.data_tags(validated)).stem}"
    store.connect()
    with cluster.connected(address, params.cpus, params.gpus):
        splits = params.storage and f"{params.storage.rstrip('/')}/splits"
        shared = {split: share(path, validated["splits"][split], splits) for split, path in paths.items()}
        job, done = Job(settings, params.cpus, shared, f"{place}/{name}"), {}

        def ended() -> Iterator[tuple[int, Figures]]:
            for seed, trained in results(job, count, params):
                done[seed] = trained
                yield seed, trained.accuracies

        yield ended()
    for seed, trained in sorted(done.items()):
        log(job, seed, trained, tags | {TRAINING_TAG: f"{name}-{seed}"})
    remove_folder(job.unfinished)


def results(job: Job, count: int, params: TuneParams) -> Iterator[tuple[int, Trained]]:
    """Start all trainings; yield each one when it has ended."""
    import ray

    remote = ray.remote(num_cpus=params.cpus, num_gpus=params.gpus, max_retries=RETRIES, retry_exceptions=True)
    task = remote(train_and_test)
    running = {task.remote(job, seed): seed for seed in range(count)}
    while running:
        (reference, *_), _ = ray.wait(list(running))
        seed = running.pop(reference)
        try:
            trained = ray.get(reference)
        except ray.exceptions.RayError as error:
            trained = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        if isinstance(trained, str):
            raise PipelineError(f"the training with seed {seed} failed: {trained}")
        yield seed, trained


def train_and_test(job: Job, seed: int) -> Trained | str:
    """Train with a seed, or continue; or the reason why that fails, which another attempt would give too."""
    try:
        with checkpoint_at(f"{job.unfinished}/{seed}.npz") as (checkpoint, store):
            splits = job.splits["train"], job.splits["validation"]
            model, rows, seconds = train(params_of(job, seed), job.threads, *splits, store, checkpoint)
        from pipeline.training.fit import accuracy_and_loss

        accuracies = {
            f"{name}_accuracy": accuracy_and_loss(model, read_split(fetch(job.splits[name])))[0]
            for name in ("validation", "test")
        }
    except PipelineError as error:
        return str(error)
    return Trained(rows, seconds, accuracies)


def params_of(job: Job, seed: int) -> TrainParams:
    """Section `train` with this seed."""
    return TrainParams.of_section("train", job.settings | {"seed": seed})


def log(job: Job, seed: int, trained: Trained, tags: dict[str, str]) -> None:
    """An MLflow run of a training, if there is none; without a model, so it never competes in `make export`."""
    from pipeline.tracking import run_logging, runs
    from pipeline.tracking.store_errors import explain_store_errors

    if runs.is_recorded(TRAINING_TAG, tags[TRAINING_TAG]):
        return
    own = {"model": job.settings["model"], "mlflow.runName": f"seed-{seed}"}
    with explain_store_errors(), runs.training_run(tags | own):
        import mlflow  # only now: `training_run` has set the variables that it reads

        mlflow.log_params({f"train.{key}": value for key, value in settings_of(params_of(job, seed)).items()})
        for row in trained.rows:
            run_logging.log_epoch(row)
        mlflow.log_metric("best_validation_accuracy", trained.accuracies["validation_accuracy"])
        mlflow.log_metric("test_accuracy", trained.accuracies["test_accuracy"])
        mlflow.log_metric("train_seconds", trained.seconds)
