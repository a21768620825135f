"""Section `tune` of params.yaml, and its search space for Ray Tune."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.common.params import Params
from pipeline.training.settings import TrainParams, schedule_of

if TYPE_CHECKING:
    from ray.tune.search.sample import Domain

SEARCHED = ("epochs", "batch_size", "learning_rate", "flip", "shift", "cutout", "smoothing")  # keys of section train
Number = bool | int | float


class Values(Params):
    """The values that a search may choose: `choices`, or all from `lowest` to `highest`.

    log: evenly on a logarithmic scale.
    """

    choices: list[Number] | None = Field(default=None, min_length=1)
    lowest: int | float | None = None
    highest: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _has_one_form(self) -> "Values":
        limits = (self.lowest, self.highest)
        if self.choices is not None:
            if limits != (None, None) or self.log:
                raise ValueError("should have either choices or lowest and highest")
        elif self.lowest is None or self.highest is None or self.lowest >= self.highest:
            raise ValueError("should have choices, or lowest and a larger highest")
        elif self.log and self.lowest <= 0:
            raise ValueError("should have a lowest above 0 for a logarithmic scale")
        return self

    def ends(self) -> list[Number]:
        """All choices, or the lowest and the highest value."""
        return self.choices or [end for end in (self.lowest, self.highest) if end is not None]


def _storage(address: str | None) -> str | None:
    if address is None or address.startswith(("/", "s3://")):
        return address
    raise ValueError("should be null, the absolute path of a folder that all machines share, or s3://BUCKET/PREFIX")


class TuneParams(Params):
    """Section `tune`: the network, the search, its trials, and the values to choose from; None is the network's own.

    seed: of the search, and of each training.
    cpus, gpus: for each trial. Trials run at the same time if there is room.
    storage: where a cluster's machines find splits and unfinished trials; None: on this machine.
    first_check: share of its epochs after which a trial can be stopped; the next checks follow at `reduction` times
        the share of the one before.
    reduction: one trial in so many goes on at a check, at least.
    """

    model: str
    trials: int = Field(gt=0, le=10_000)
    seed: int = Field(ge=0, lt=2**32)
    cpus: int = Field(gt=0)
    gpus: int = Field(ge=0)
    storage: Annotated[str | None, AfterValidator(_storage)]
    first_check: float = Field(gt=0, le=1)
    reduction: int = Field(ge=2)
    class_weight: Literal["balanced"] | None
    epochs: Values | None
    batch_size: Values | None
    learning_rate: Values | None
    flip: Values | None
    shift: Values | None
    cutout: Values | None
    smoothing: Values | None

    @model_validator(mode="after")
    def _fits_train(self) -> "TuneParams":
        """Check each value as section `train` does."""
        for name in SEARCHED:
            values: Values | None = getattr(self, name)
            for value in values.ends() if values else [None]:
                try:
                    train_params(self, {name: value})
                except ValidationError as error:
                    (detail, *_) = error.errors()
                    key = detail["loc"][0]
                    raise ValueError(f"{key} has the value {detail['input']!r}: {detail['msg']}") from None
        return self


def train_params(params: TuneParams, chosen: dict[str, Any]) -> TrainParams:
    """Section `train` with the chosen values; keys that are not searched are null, the network's own value."""
    own: dict[str, Any] = dict.fromkeys(SEARCHED)
    fixed = {"model": params.model, "class_weight": params.class_weight, "seed": params.seed}
    return TrainParams.model_validate(own | fixed | chosen)


def epochs_of(params: TuneParams, chosen: dict[str, Any]) -> int:
    """The number of epochs that a trial with these values has if it is not stopped."""
    return schedule_of(train_params(params, chosen)).epochs


def search_space(params: TuneParams) -> "dict[str, Domain]":
    """What Ray Tune may choose, by key."""
    return {name: _domain(values, name) for name in SEARCHED if (values := getattr(params, name))}


def _domain(values: Values, name: str) -> "Domain":
    from ray import tune

    if values.choices:
        return tune.choice(values.choices)
    low, high = values.ends()
    if TrainParams.model_fields[name].annotation == int | None:
        return (tune.lograndint if values.log else tune.randint)(int(low), int(high) + 1)  # it excludes the second
    return (tune.loguniform if values.log else tune.uniform)(low, high)
