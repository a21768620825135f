"""The MLflow runs of the trials, nested in the run of the search; the driver writes them."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.time import get_current_time_millis
from ray.tune import Callback

from pipeline.tracking.runs import Recorder
from pipeline.training.fit import FIGURES
from pipeline.training.settings import settings_of
from pipeline.tuning.settings import TuneParams, epochs_of, train_params

if TYPE_CHECKING:
    from ray.tune import ResultGrid
    from ray.tune.experiment import Trial

Report = dict[str, Any]  # of an epoch, as `run_trial` makes it; or the chosen values of a trial

FINISHED, STOPPED, FAILED = "finished", "stopped early", "failed"  # outcomes
STATUS = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}  # of MLflow
TRIAL_TAG, OUTCOME_TAG = "tune.trial", "tune.outcome"


class TrialRuns(Callback):
    """Writes one run per trial: settings, each epoch once, outcome; and a line to the terminal when a trial ends.

    Ray pickles it with the search, so everything but the arguments is made again in the process that uses it.
    """

    def __init__(self, params: TuneParams, parent: str, experiment: str, tags: dict[str, str]) -> None:
        self._params, self._parent, self._experiment, self._tags = params, parent, experiment, tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_client", "_record", "_runs")}

    @cached_property
    def _client(self) -> MlflowClient:
        return MlflowClient()

    @cached_property
    def _record(self) -> Recorder:
        return Recorder(self._parent, "tune")

    @cached_property
    def _runs(self) -> dict[str, tuple[str, set[int]]]:
        """Run id and logged epochs by trial id."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: "list[Trial]", trial: "Trial", result: Report, **info: object
    ) -> None:
        """Log an epoch."""
        if "epoch" in result:
            self._record(self._log_epoch, trial.trial_id, trial.config, dict(result))

    def on_trial_complete(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: object) -> None:
        """Log the outcome of a trial that trained to its end or that the scheduler stopped."""
        self._end(trials, trial, outcome_of(self._params, trial.config, trial.last_result))

    def on_trial_recover(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: object) -> None:
        """Say that a process died, and which trial starts again."""
        epoch = (trial.last_result or {}).get("epoch", 0)
        print(f"tune: the process of a trial died; it continues after epoch {epoch}; {shown(trial.config)}", flush=True)

    def on_trial_error(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: object) -> None:
        """Log that the process of a trial failed more often than it may."""
        self._end(trials, trial, FAILED)

    def settle(self, results: "ResultGrid") -> None:
        """Log what a driver that was killed could not: outcomes of ended trials, and trials of which Ray knows nothing."""
        for result in results:  # type: ignore[attr-defined]  # it has a length and items
            figures = result.metrics or {}
            if trial_id := figures.get("trial_id"):
                outcome = outcome_of(self._params, result.config, None if result.error else figures)
                self._record(self._terminate, trial_id, result.config, figures, outcome)
        self._record(self._terminate_lost)

    def _end(self, trials: "list[Trial]", trial: "Trial", outcome: str) -> None:
        figures = trial.last_result or {}
        self._record(self._terminate, trial.trial_id, trial.config, figures, outcome)
        text = figures.get("error") or last_error(trial)
        if outcome != FAILED:
            epochs = epochs_of(self._params, trial.config)
            text = f"validation accuracy {figures['best_validation_accuracy']:.4f} after {figures['epoch']} of {epochs} epochs"
        ended = sum(each.is_finished() for each in trials if each is not trial) + 1
        print(f"tune: trial {ended} of {self._params.trials} {outcome}: {text}; {shown(trial.config)}", flush=True)

    def _log_epoch(self, trial_id: str, chosen: Report, row: Report) -> None:
        run_id, logged = self._run_of(trial_id, chosen)
        if row["epoch"] not in logged:
            now = get_current_time_millis()
            self._client.log_batch(run_id, [Metric(name, row[name], now, row["epoch"]) for name in FIGURES])
            logged.add(row["epoch"])

    def _terminate(self, trial_id: str, chosen: Report, figures: Report, outcome: str) -> None:
        run_id, _ = self._run_of(trial_id, chosen)
        if OUTCOME_TAG in self._client.get_run(run_id).data.tags:
            return
        if "epoch" in figures:
            self._client.log_metric(run_id, "best_validation_accuracy", figures["best_validation_accuracy"])
            self._client.log_metric(run_id, "train_seconds", figures["seconds"])
        self._client.set_terminated(run_id, STATUS[outcome])
        self._client.set_tag(run_id, OUTCOME_TAG, outcome)

    def _terminate_lost(self) -> None:
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self._parent}' and attributes.status = 'RUNNING'"
        for run in self._client.search_runs([self._experiment], query):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _run_of(self, trial_id: str, chosen: Report) -> tuple[str, set[int]]:
        """The run of a trial and its logged epochs: known, found in the store after a new start, or new."""
        if trial_id not in self._runs:
            tags = {MLFLOW_PARENT_RUN_ID: self._parent, TRIAL_TAG: trial_id}
            query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
            found = self._client.search_runs([self._experiment], query, max_results=1)
            run_id = found[0].info.run_id if found else self._new_run(trial_id, chosen, tags)
            history = self._client.get_metric_history(run_id, "validation_accuracy") if found else []
            self._runs[trial_id] = run_id, {metric.step for metric in history}
        return self._runs[trial_id]

    def _new_run(self, trial_id: str, chosen: Report, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, tags=self._tags | tags, run_name=f"trial {trial_id}")
        settings = settings_of(train_params(self._params, chosen))
        params = [Param(f"train.{name}", str(value)) for name, value in settings.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return run.info.run_id


def outcome_of(params: TuneParams, chosen: Report, figures: Report | None) -> str:
    """What became of a trial with this last report."""
    if not figures or "epoch" not in figures or "error" in figures:
        return FAILED
    return FINISHED if figures["epoch"] == epochs_of(params, chosen) else STOPPED


def last_error(trial: "Trial") -> str:
    """The last line of what a process of the trial raised."""
    return str(trial.get_error() or "no error is known").strip().splitlines()[-1]


def shown(chosen: Report) -> str:
    """The chosen values as text."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in chosen.items()
    )
