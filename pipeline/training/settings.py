"""Section `train` of params.yaml, and the settings that it leaves to the network."""

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from pipeline.common.params import Params
from pipeline.models.networks import NETWORKS, Augmentation


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"should be one of {', '.join(NETWORKS)}")
    return name


class TrainParams(Params):
    """Section `train`. None is the network's own value, except for `class_weight`.

    class_weight: "balanced": all classes weigh the same in the loss, as in scikit-learn; None: all images do.
    flip to smoothing: as in `Augmentation`.
    """

    model: Annotated[str, AfterValidator(_known_network)]
    epochs: int | None = Field(gt=0)
    batch_size: int | None = Field(gt=0)
    learning_rate: float | None = Field(gt=0)
    class_weight: Literal["balanced"] | None
    flip: bool | None
    shift: int | None = Field(ge=0, le=16)
    cutout: int | None = Field(ge=0, le=32)
    smoothing: float | None = Field(ge=0, lt=1)
    seed: int = Field(ge=0, lt=2**32)


class Schedule(NamedTuple):
    """How long and in which steps a network is trained; `learning_rate` is the highest of the schedule."""

    epochs: int
    batch_size: int
    learning_rate: float


def schedule_of(params: TrainParams) -> Schedule:
    """The values of params.yaml, or the network's own where those are null."""
    network = NETWORKS[params.model]
    return Schedule(
        params.epochs or network.epochs,
        params.batch_size or network.batch_size,
        params.learning_rate or network.learning_rate,
    )


def augmentation_of(params: TrainParams) -> Augmentation:
    """The values of params.yaml, or the network's own where those are null."""
    given = {name: getattr(params, name) for name in Augmentation._fields}
    return NETWORKS[params.model].augmentation._replace(
        **{name: value for name, value in given.items() if value is not None}
    )


def settings_of(params: TrainParams) -> dict[str, object]:
    """Everything in section `train`, with the network's own values and its optimizer."""
    optimizer = {"optimizer": NETWORKS[params.model].optimizer.__name__}
    return params.model_dump() | schedule_of(params)._asdict() | augmentation_of(params)._asdict() | optimizer
