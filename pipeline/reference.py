"""`make reference`: keep what the validated data looks like, for later archives to be compared with.

python -m pipeline.reference TRAIN VALIDATION TEST REPORT REFERENCE
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.appearance import MEASURES
from pipeline.cifar10 import data_name
from pipeline.drift import QUANTILES, summarize
from pipeline.errors import PipelineError, one_message
from pipeline.features import image_table
from pipeline.files import whole
from pipeline.params import read_params
from pipeline.splits import SPLIT_NAMES, read_split, require_validated

REMEDY = "`git checkout data/reference.json` restores it; `make reference` writes it anew from validated data."
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """What is kept of the training or the test images, as `drift.summarize` makes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    images: int = Field(gt=0)
    class_shares: dict[str, Share] = Field(min_length=2)
    class_ranks: dict[str, dict[str, Share]]
    quantiles: dict[str, list[float]]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if {frozenset(self.quantiles), *map(frozenset, self.class_ranks.values())} != {frozenset(MEASURES)}:
            raise ValueError("it holds other measures than this version takes")
        if self.class_ranks.keys() != self.class_shares.keys():
            raise ValueError("class_ranks and class_shares name different classes")
        for name, values in self.quantiles.items():
            if len(values) != len(QUANTILES) or values != sorted(values):
                raise ValueError(f"quantiles of {name} must be {len(QUANTILES)} rising numbers")
        return self


class Reference(BaseModel):
    """The content of data/reference.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    archive_sha256: str = Field(min_length=1)
    parts: dict[Literal["training", "test"], Part] = Field(min_length=2)


def read_reference(path: Path) -> Reference | None:
    """The reference, or None where none is kept: the file says `{}`.

    Raises:
        PipelineError: the file is absent or damaged.
    """
    try:
        content = json.loads(path.read_text())
        return None if content == {} else Reference.model_validate(content)
    except FileNotFoundError:
        raise PipelineError(f"there is no {path}, which holds the reference or `{{}}`. {REMEDY}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PipelineError(f"{path} is damaged: {where}: {first['msg']}. {REMEDY}") from None
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {error}. {REMEDY}") from None


def keep_reference(train: Path, validation: Path, test: Path, report: Path, reference: Path) -> None:
    """Write `reference` from the splits that `report` approves of.

    Raises:
        PipelineError: the splits were not validated, or failed.
    """
    paths = dict(zip(SPLIT_NAMES, (train, validation, test), strict=True))
    require_validated(report, *paths.values())
    splits = {name: read_split(path) for name, path in paths.items()}
    images, archive_sha256 = image_table(splits), splits["train"].archive_sha256
    content = {
        "name": data_name(read_params()["download"]["name"], archive_sha256),
        "archive_sha256": archive_sha256,
        "parts": summarize(images, splits["train"].class_names.tolist()),
    }
    with whole(reference) as (draft,):
        draft.write_text(_compact(Reference.model_validate(content).model_dump()))
    print(
        f"reference: {content['name']}, {len(images):,} images, kept in {reference}. Commit it: later data is "
        "compared with it by `dvc repro validate`. To keep none, write {} into the file."
    )


def _compact(content: dict[str, Any]) -> str:
    """JSON with a line per list, so that a change can be read."""
    text = json.dumps(content, indent=1, allow_nan=False)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


if __name__ == "__main__":
    with one_message("reference"):
        keep_reference(*map(Path, sys.argv[1:]))
