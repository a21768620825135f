"""Section `validate` of params.yaml: what the archive must look like."""

from typing import Annotated

from pydantic import Field

from pipeline.common.params import Params

Fraction = Annotated[float, Field(ge=0, le=1)]
PerChannel = Annotated[list[Fraction], Field(min_length=3, max_length=3)]


class ValidateParams(Params):
    """Section `validate`; `class_imbalance` is None if the classes may have any share of the images."""

    train_images: int = Field(gt=0)
    test_images: int = Field(gt=0)
    channel_means: PerChannel
    channel_spreads: PerChannel
    tolerance: Fraction
    darkest: int = Field(ge=0, le=255)
    brightest: int = Field(ge=0, le=255)
    class_imbalance: Fraction | None
    minimum_image_spread: Fraction
    repeated_images: Fraction
    drift: Fraction
