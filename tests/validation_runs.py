"""The validate stage and `make reference` on small splits, and a way to change a split."""

import json

import numpy as np

from pipeline.data.splits import SPLIT_NAMES, read_split, write_split
from pipeline.reference import reference
from pipeline.validate import ValidateParams, validate

PARAMS = ValidateParams(
    train_images=500,
    test_images=100,
    channel_means=[0.51, 0.47, 0.43],
    channel_spreads=[0.3, 0.28, 0.26],
    tolerance=0.08,
    darkest=0,
    brightest=255,
    class_imbalance=0.3,
    minimum_image_spread=0.01,
    repeated_images=0.01,
    drift=0.02,
)


def split_arguments(splits):
    """The arguments train_split, validation_split and test_split of a stage."""
    return {f"{name}_split": splits[name] for name in SPLIT_NAMES}


def run_validate(splits, folder, params=PARAMS):
    """Run the stage in `folder`, with the reference there if it exists; the content of its v.json."""
    file = folder / "reference.json"
    if not file.exists():
        file.write_text("{}")
    outputs = {"verdict": folder / "v.json", "drift": folder / "drift.json", "data_docs": folder / "docs"}
    validate(params, **split_arguments(splits), reference=file, **outputs)
    return json.loads(outputs["verdict"].read_text())


def write_reference(splits, folder, verdict="validate.json"):
    """Write reference.json in `folder` from these splits and their verdict there."""
    reference(**split_arguments(splits), verdict=folder / verdict, target=folder / "reference.json")


def change_split(splits, name, **changes):
    """Rewrite a split with other content: change_split(splits, "test", images=lambda images: ...)."""
    split = read_split(splits[name])
    changed = {key: change(np.copy(getattr(split, key))) for key, change in changes.items()}
    write_split(splits[name], split._replace(**changed))


def change_all(splits, **changes):
    """`change_split` on all three splits."""
    for name in SPLIT_NAMES:
        change_split(splits, name, **changes)
