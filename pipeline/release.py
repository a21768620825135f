"""`make export`: the best run challenges the champion; the winner's bundle goes into dist/.

Stands outside the DAG, since it reads the tracking store:
python -m pipeline.release REPORT TRAIN VALIDATION DIST [--allow]
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline import registry
from pipeline.bundle import write_bundle
from pipeline.candidate import write_candidate
from pipeline.duel import Duel, duel, right
from pipeline.errors import PipelineError, one_message
from pipeline.params import Params, read_params
from pipeline.registry import ALIAS, FACTS, KEPT, ONNX_FILE, PROMOTED, REGISTERED_NAME, ROLLED_BACK
from pipeline.splits import Split, read_split, require_validated
from pipeline.tracking import connect, explained

LIMITS, DUEL = "limits", "duel"  # what a decision came by


class ReleaseParams(Params):
    significance: float = Field(gt=0, lt=1)
    maximum_milliseconds: float = Field(gt=0)
    maximum_megabytes: float = Field(gt=0)
    int8_loss: float = Field(ge=0, lt=1)


def release(params: ReleaseParams, report: Path, train: Path, validation: Path, dist: Path, allow: bool) -> None:
    """Let the best competing run challenge the champion, and write the champion's bundle to the folder `dist`.

    Args:
        report: validate.json of the current results: a run competes if it is on the same data.
        train: its images tell the ranges of the int8 copy.
        validation: decides.
        allow: promote the challenger whatever is found.

    Raises:
        PipelineError: no run competes, none may become the first champion, or the store cannot be reached.
    """
    if not report.exists():
        raise PipelineError("there are no results here yet. Run `make repro`, then `make export`.")
    approved = require_validated(report, train, validation)
    data = {name: approved[name] for name in ("archive_sha256", "splits_sha256")}
    mlflow, splits = connect(), (read_split(train), read_split(validation))
    write_champion(mlflow, settle(mlflow, data, params, splits, allow), dist)


def settle(mlflow: Any, data: dict[str, str], params: ReleaseParams, splits: tuple[Split, Split], allow: bool) -> Any:
    """The version that is champion once the best runs have challenged.

    The best run challenges; where a limit or a rollback rules it out, the next one does. A
    challenger is judged once against one champion under one set of limits.
    """
    with explained():
        champion, runs = registry.current_champion(mlflow), registry.competing_runs(mlflow, data)
    rival = champion if champion and registry.same_data(champion, data) else None
    for run in runs:
        with explained():
            version = registry.version_of_run(mlflow, run, data)
        if rival and version and version.version == rival.version:
            print(f"export: version {rival.version} of {REGISTERED_NAME} stays the {ALIAS}: no run is better")
            return rival
        if version and not allow and judged_before(version, rival, params):
            verdict, facts = recalled(mlflow, version)
        else:
            version = version or candidate_of(mlflow, run, data, splits, params.int8_loss)
            verdict, facts = judged(mlflow, rival, version, params, splits[1], allow)
        if verdict == PROMOTED:
            return version
        if facts["by"] == DUEL:
            return champion
    if champion is None:
        raise PipelineError(
            f"no run may become {ALIAS}: {facts['reason']}. Change section `release` of params.yaml, or run "
            "`make export ALLOW=1`."
        )
    return champion


def judged_before(version: Any, rival: Any | None, params: ReleaseParams) -> bool:
    """Whether the version was rolled back, or was judged against this very champion under these limits."""
    if version.tags.get("decision") == ROLLED_BACK:
        return True
    asked = rival is not None and (str(rival.version), limits(params))
    return "decision" in version.tags and asked == tuple(
        version.tags.get(f"decision.{name}") for name in ("against", "limits")
    )


def limits(params: ReleaseParams) -> str:
    """What a decision depends on beside the two models, in words."""
    return params.model_dump_json(exclude={"int8_loss"})


def recalled(mlflow: Any, version: Any) -> tuple[str, dict[str, Any]]:
    """The decision of an earlier call, carried out where that call was interrupted before it moved the alias."""
    verdict, facts = version.tags["decision"], {name: version.tags[f"decision.{name}"] for name in ("by", "reason")}
    print(f"export: version {version.version} of {REGISTERED_NAME} was judged before: {verdict}, {facts['reason']}")
    if verdict == PROMOTED:
        with explained():
            registry.crown(mlflow, version)
    return verdict, facts


def candidate_of(mlflow: Any, run: Any, data: dict[str, str], splits: tuple[Split, Split], int8_loss: float) -> Any:
    """Measure a run's model and register it."""
    print(f"export: measures the model of MLflow run {run.info.run_name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        write_candidate(mlflow, run, model, *splits, int8_loss)
        with explained():
            return registry.register(mlflow, run, model, data)


def judged(
    mlflow: Any, rival: Any | None, version: Any, params: ReleaseParams, validation: Split, allow: bool
) -> tuple[str, dict[str, Any]]:
    """The decision of `judge`, recorded on the version and printed."""
    verdict, facts = judge(mlflow, rival, version, params, validation, allow)
    with explained():
        registry.record(mlflow, version, verdict, facts | {"limits": limits(params)})
    print(f"export: version {version.version} of {REGISTERED_NAME}: {verdict}, {facts['reason']}")
    return verdict, facts


def judge(
    mlflow: Any, rival: Any | None, challenger: Any, params: ReleaseParams, validation: Split, allow: bool
) -> tuple[str, dict[str, Any]]:
    """`PROMOTED` or `KEPT`, and why, by what, and with which figures.

    Args:
        rival: the champion where it is on the same data; one on other data gives way without a duel.
    """
    with tempfile.TemporaryDirectory() as folder:
        with explained():
            files = registry.fetch_version(mlflow, challenger, Path(folder) / "challenger")
            theirs = registry.fetch_version(mlflow, rival, Path(folder) / "champion") if rival else None
        objections = over_limits(files / ONNX_FILE, json.loads((files / FACTS).read_text()), params)
        by, reason, figures = LIMITS, "nothing to compare it with on these data", {}
        if theirs:
            result = duel(right(theirs / ONNX_FILE, validation), right(files / ONNX_FILE, validation))
            reason, figures = told(result), {"against": rival.version} | result._asdict()
            if not objections:
                by = DUEL
            if not result.won(params.significance):
                objections.append(f"not better beyond chance: {reason}")
    if objections and not allow:
        return KEPT, {"by": by, "reason": "; ".join(objections)} | figures
    if objections:
        by, reason = "ALLOW=1", "; ".join(["by ALLOW=1", *objections])
    return PROMOTED, {"by": by, "reason": reason} | figures


def over_limits(model: Path, facts: dict[str, Any], params: ReleaseParams) -> list[str]:
    """What of section `release` the model exceeds, in words."""
    milliseconds, megabytes = facts["latency"][ONNX_FILE]["batch_1"]["p50_ms"], model.stat().st_size / 1e6
    found = []
    if milliseconds > params.maximum_milliseconds:
        found.append(
            f"an image takes {milliseconds} ms, release.maximum_milliseconds allows {params.maximum_milliseconds}"
        )
    if megabytes > params.maximum_megabytes:
        found.append(f"it has {megabytes:.1f} MB, release.maximum_megabytes allows {params.maximum_megabytes}")
    return found


def told(result: Duel) -> str:
    """A duel in words."""
    return (
        f"{result.challenger_accuracy:.2%} against the {ALIAS}'s {result.champion_accuracy:.2%} on {result.images:,} "
        f"validation images, {result.only_challenger} right where only it was, {result.only_champion} where only the "
        f"{ALIAS} was, p = {result.p_value:.3f}"
    )


def write_champion(mlflow: Any, champion: Any, dist: Path) -> None:
    """Write the bundle of a registered version."""
    with tempfile.TemporaryDirectory() as folder:
        with explained():
            files = registry.fetch_version(mlflow, champion, Path(folder) / "version")
        facts = json.loads((files / FACTS).read_text())
        facts["lineage"]["model_version"] = int(champion.version)
        bundle = write_bundle(dist / f"{REGISTERED_NAME}-v{champion.version}", files, facts)
    metrics = facts["metrics"]
    print(
        f"export: {bundle}, validation accuracy {metrics['validation_accuracy']:.4f}, "
        f"test accuracy {metrics['test_accuracy']:.4f}"
    )


def main() -> None:
    """`make export`."""
    parser = argparse.ArgumentParser("make export", description=__doc__.splitlines()[0])
    for name in ("report", "train", "validation", "dist"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--allow", action="store_true", help="promote the challenger whatever is found")
    params = ReleaseParams.of_section("release", read_params().get("release", {}))
    release(params, **vars(parser.parse_args()))


if __name__ == "__main__":
    with one_message("export"):
        main()
