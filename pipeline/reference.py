"""`make reference`: write the statistics of the validated data, with which later archives are compared."""

import json
import re
from pathlib import Path

from pipeline.common.files import Json, atomic_outputs
from pipeline.common.params import read_params, run_stage
from pipeline.data.cifar10 import data_name
from pipeline.data.splits import SPLIT_NAMES, read_split, require_validated
from pipeline.validation.drift import summarize
from pipeline.validation.reference import Reference
from pipeline.validation.tables import image_table


def reference(train_split: Path, validation_split: Path, test_split: Path, verdict: Path, target: Path) -> None:
    """Write the reference `target`; `PipelineError` if the splits did not pass validation."""
    paths = dict(zip(SPLIT_NAMES, (train_split, validation_split, test_split), strict=True))
    require_validated(verdict, **paths)
    splits = {name: read_split(path) for name, path in paths.items()}
    images, archive_sha256 = image_table(splits), splits["train"].archive_sha256
    content = Reference(
        name=data_name(read_params()["download"]["name"], archive_sha256, splits["train"].is_cifar10),
        archive_sha256=archive_sha256,
        parts=summarize(images, splits["train"].class_names.tolist()),
    )
    with atomic_outputs(target) as (draft,):
        draft.write_text(_compact(content.model_dump()), encoding="utf-8")
    print(
        f"reference: statistics of {content.name}, {len(images):,} images, are in {target}. Commit it: "
        "`dvc repro validate` compares later data with it. To keep no reference, write {} to the file."
    )


def _compact(content: Json) -> str:
    """JSON with one line per list, for readable diffs."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


if __name__ == "__main__":
    run_stage(reference)
