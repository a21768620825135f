"""`make export`: compare the best run with the champion; write the champion's bundle to dist/.

This is not a stage of the DAG, because it reads the tracking store:
python -m pipeline.promote VERDICT TRAIN_SPLIT VALIDATION_SPLIT DIST [--allow]
"""

import argparse
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from pipeline.common.errors import PipelineError, exit_on_error, printable
from pipeline.common.files import exclusive
from pipeline.common.params import Params, read_params
from pipeline.data.splits import Split, read_split, require_validated
from pipeline.onnx.isolated import UnusableModel
from pipeline.registry import store
from pipeline.registry.artifacts import REGISTERED_NAME, fetch_version, name_of, refuse_unusable
from pipeline.registry.bundle import FACTS, MAXIMUM_BYTES, ONNX_FILE
from pipeline.registry.competitors import competing_runs, require_facts
from pipeline.registry.model_version import require_accuracy, require_usable, write_model_version, write_version_bundle
from pipeline.registry.significance import compare, is_correct
from pipeline.registry.store import ALIAS, KEPT, PROMOTED, ROLLED_BACK, Facts
from pipeline.tracking.lineage import data_tags
from pipeline.tracking.store import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion


REMOVE_ALIAS = f"Remove its alias {ALIAS} in MLflow, then run `make export`."


class PromoteParams(Params):
    """Section `promote`: what a model must meet to become champion."""

    significance: float = Field(gt=0, lt=1)
    maximum_milliseconds: float = Field(gt=0)
    maximum_megabytes: float = Field(gt=0, le=MAXIMUM_BYTES / 1e6)
    int8_loss: float = Field(ge=0, lt=1)

    def limits(self) -> str:
        """The settings that a decision depends on, as text."""
        return self.model_dump_json(exclude={"int8_loss"})


class Request(NamedTuple):
    """What `make export` was called with."""

    params: PromoteParams
    data: dict[str, str]  # SHA-256 of the archive and of the splits, by tag name; runs on this data compete
    training: Split  # gives the ranges of the int8 copy
    validation: Split  # decides
    allow: bool  # promote the challenger, whatever the comparison and the limits say


def promote(
    params: PromoteParams, verdict: Path, train_split: Path, validation_split: Path, dist: Path, allow: bool
) -> None:
    """Compare the best competing run with the champion, and write the champion's bundle to the folder `dist`."""
    if not verdict.exists():
        raise PipelineError("there are no results here yet. Run `make repro`, then `make export`.")
    data = data_tags(require_validated(verdict, train=train_split, validation=validation_split))
    request = Request(params, data, read_split(train_split), read_split(validation_split), allow)
    champion = choose_champion(connect(), request)
    with refuse_unusable(champion, REMOVE_ALIAS), fetch_version(champion) as files:
        require_usable(files)
        print(f"promote: {write_version_bundle(files, int(champion.version), dist)}")


def choose_champion(client: "MlflowClient", request: Request) -> "ModelVersion":
    """The champion after a comparison with the best run, or the next best one if a limit or a rollback excludes it."""
    champion, runs = store.current_champion(client), competing_runs(client, request.data)
    rival = champion if champion and store.is_same_data(champion, request.data) else None
    for run in runs:
        try:
            require_facts(run)
            if rival and rival.version in {each.version for each in store.versions_of_run(client, run, request.data)}:
                print(f"promote: version {rival.version} of {REGISTERED_NAME} stays {ALIAS}: no run is better")
                return rival
            version, decision, note = judge(client, run, rival, request)
        except UnusableModel as error:  # made by others: the next run competes
            reason = f"{name_of(run)} is skipped: {error}"
            remedy = "Run `dvc repro --force --single-item evaluate export` to record your own model again."
            print(f"promote: {reason}")
            continue
        outcome, reason = decision["decision"], printable(str(decision["reason"]), 1000)
        print(f"promote: version {version.version} of {REGISTERED_NAME}{note}: {outcome}, {reason}")
        remedy = "Change section `promote` of params.yaml, or run `make export ALLOW=1`."
        if outcome == PROMOTED:  # the alias last: an interrupted call has not moved it yet
            store.set_champion_alias(client, version)
            return version
        if decision["by"] == "comparison":
            break
    if champion is None:
        raise PipelineError(f"no run may become {ALIAS}: {reason}. {remedy}")
    return champion


def judge(
    client: "MlflowClient", run: "Run", rival: "ModelVersion | None", request: Request
) -> tuple["ModelVersion", Facts, str]:
    """The version of a run, the decision about it, and a note if an earlier call has decided."""
    version = usable_version(client, run, request)
    if decision := earlier_decision(version, rival, request):
        return version, decision, ", decided before"
    decision = decide(rival, version, run.data.metrics["best_validation_accuracy"], request)
    store.record_decision(client, version, decision)
    return version, decision, ""


def usable_version(client: "MlflowClient", run: "Run", request: Request) -> "ModelVersion":
    """The version that holds the run's model; it is registered if there is none, or only unusable ones of others."""
    unusable = set()
    for version in store.versions_of_run(client, run, request.data):
        with suppress(UnusableModel), fetch_version(version) as files:
            require_usable(files)
            return version
        unusable.add(version.version)
    print(f"promote: measuring the model of MLflow run {printable(str(run.info.run_name), 100)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model_version(run, Path(folder), request.training, request.validation, request.params.int8_loss)
        version = store.register(client, run, model, request.data)
    for other in store.versions_of_run(client, run, request.data):  # another `make export` on this store was faster
        if int(other.version) < int(version.version) and other.version not in unusable:
            client.delete_model_version(REGISTERED_NAME, version.version)
            return other
    return version


def earlier_decision(version: "ModelVersion", rival: "ModelVersion | None", request: Request) -> Facts | None:
    """The recorded decision, if the version was rolled back or compared with this champion under these limits."""
    if request.allow or version.tags.get("decision") not in (KEPT, ROLLED_BACK):
        return None
    facts: Facts = {"by": None, "reason": None}
    facts |= {name.removeprefix("decision."): value for name, value in version.tags.items()}
    compared = rival and [str(rival.version), request.params.limits()] == [facts.get("against"), facts.get("limits")]
    return facts if compared or facts["decision"] == ROLLED_BACK else None


def decide(rival: "ModelVersion | None", challenger: "ModelVersion", claimed: float, request: Request) -> Facts:
    """Whether the challenger becomes champion, and why; it is compared with a champion on the same data.

    `UnusableModel` if its validation accuracy is not the claimed one.
    """
    with fetch_version(challenger) as files:
        objections = over_limits(files, request.params)
        correct = is_correct(files / ONNX_FILE, request.validation)
    require_accuracy(claimed, correct)
    by, reason = "limits", "there is no champion on this data to compare with"
    figures: Facts = {"limits": request.params.limits()}
    if rival:
        with refuse_unusable(rival, REMOVE_ALIAS), fetch_version(rival) as files:
            result = compare(is_correct(files / ONNX_FILE, request.validation), correct)
        reason, figures = result.describe(), figures | {"against": rival.version} | result._asdict()
        by = "limits" if objections else "comparison"
        if not result.is_improvement(request.params.significance):
            objections.append(f"not a statistically significant improvement: {reason}")
    if objections and request.allow:
        by, objections = "ALLOW=1", ["by ALLOW=1", *objections]
    outcome = KEPT if objections and not request.allow else PROMOTED
    return {"decision": outcome, "by": by, "reason": "; ".join(objections) or reason} | figures


def over_limits(version: Path, params: PromoteParams) -> list[str]:
    """The limits of section `promote` that the files of a version exceed, one sentence each."""
    milliseconds = json.loads((version / FACTS).read_text())["latency"][ONNX_FILE]["batch_1"]["p50_ms"]
    megabytes, limits = (version / ONNX_FILE).stat().st_size / 1e6, params.model_dump()
    measured = {
        "maximum_milliseconds": (milliseconds, f"one image takes {milliseconds} ms"),
        "maximum_megabytes": (megabytes, f"the file has {megabytes:.1f} MB"),
    }
    return [
        f"{text}, promote.{name} allows {limits[name]}"
        for name, (value, text) in measured.items()
        if value > limits[name]
    ]


def main() -> None:
    """`make export`."""
    parser = argparse.ArgumentParser("make export", description=(__doc__ or "").splitlines()[0])
    for name in ("verdict", "train_split", "validation_split", "dist"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--allow", action="store_true", help="promote the challenger in any case")
    params = PromoteParams.of_section("promote", read_params().get("promote", {}))
    arguments = parser.parse_args()
    with exclusive("export"):
        promote(params, **vars(arguments))


if __name__ == "__main__":
    with exit_on_error("promote"):
        main()
