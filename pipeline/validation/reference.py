"""data/reference.json: the statistics of a validated data set, with which later archives are compared."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.common.errors import PipelineError
from pipeline.validation.image_statistics import STATISTICS

QUANTILES = np.linspace(0, 1, 101)
REMEDY = "`git checkout data/reference.json` restores it; `make reference` writes it again from validated data."
Share = Annotated[float, Field(ge=0, le=1)]
PartName = Literal["training", "test"]


class PartStatistics(BaseModel):
    """Statistics of the training images or of the test images.

    class_shares: share of the images by class.
    class_ranks: by class and image statistic, the mean rank of the class's images among all images, 0 to 1.
    quantiles: by image statistic, its values at `QUANTILES`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    images: int = Field(gt=0)
    class_shares: dict[str, Share] = Field(min_length=2)
    class_ranks: dict[str, dict[str, Share]]
    quantiles: dict[str, list[float]]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if {frozenset(self.quantiles), *map(frozenset, self.class_ranks.values())} != {frozenset(STATISTICS)}:
            raise ValueError("it contains other image statistics than this version computes")
        if self.class_ranks.keys() != self.class_shares.keys():
            raise ValueError("class_ranks and class_shares have different classes")
        for name, values in self.quantiles.items():
            if len(values) != len(QUANTILES) or values != sorted(values):
                raise ValueError(f"quantiles of {name} must be {len(QUANTILES)} numbers in ascending order")
        return self


class Reference(BaseModel):
    """The content of data/reference.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    archive_sha256: str = Field(min_length=1)
    parts: dict[PartName, PartStatistics] = Field(min_length=2)


def read_reference(path: Path) -> Reference | None:
    """The reference, or None if the file contains `{}`; `PipelineError` if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return None if content == {} else Reference.model_validate(content)
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist; it must contain a reference or `{{}}`. {REMEDY}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise PipelineError(f"{path} is damaged: {key}: {first['msg']}. {REMEDY}") from None
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {error}. {REMEDY}") from None
