"""The search: Ray Tune with ASHA and Optuna, started or continued."""

import logging
import warnings
from functools import partial
from typing import TYPE_CHECKING

from pipeline.distributed.storage import exists
from pipeline.tuning.settings import TuneParams, search_space
from pipeline.tuning.trial import Job, run_trial
from pipeline.tuning.trial_runs import TrialRuns

if TYPE_CHECKING:
    from ray.tune import ResultGrid, Tuner

METRIC = "best_validation_accuracy"
RETRIES = 5  # of a trial whose process or machine died


def search(params: TuneParams, name: str, storage: str, job: Job, runs: TrialRuns) -> "ResultGrid":
    """Run the trials, or those that an interrupted search of this name in the storage has left.

    ASHA (arXiv 1810.05934) compares trials by share of their epochs, because the learning-rate schedule spans them:
    with equal numbers of epochs a short schedule would always be ahead. Optuna's sampler is TPE.
    """
    from ray.tune import Tuner

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # `TrialRuns` prints what happened
    warnings.filterwarnings("ignore", module="optuna|ray")
    trainable = partial(run_trial, job=job)
    if exists(f"{storage}/{name}/tuner.pkl"):
        print("tune: continues an interrupted search", flush=True)
        tuner = Tuner.restore(f"{storage}/{name}", trainable, resume_unfinished=True, restart_errored=True)
    else:
        tuner = new_tuner(params, name, storage, trainable, runs)
    return tuner.fit()


def new_tuner(params: TuneParams, name: str, storage: str, trainable: partial[None], runs: TrialRuns) -> "Tuner":
    """A search that has not begun."""
    import optuna
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": params.cpus, "gpu": params.gpus}),
        param_space=search_space(params),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=params.trials,
            search_alg=OptunaSearch(seed=params.seed),
            scheduler=ASHAScheduler(
                time_attr="percent",
                max_t=101,  # trials end themselves
                grace_period=max(1, round(100 * params.first_check)),
                reduction_factor=params.reduction,
            ),
            reuse_actors=True,  # a new process imports TensorFlow for seconds
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage,
            callbacks=[runs],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    )
