"""What an archive says about itself: class names, and the number of images in each batch.

Formats: CIFAR-10's and CIFAR-100's, https://www.cs.toronto.edu/~kriz/cifar.html ("Python version"), and that of
`make pack`: CIFAR-10's with the keys `side`, `preprocessing`, `num_train_images` and `num_test_images` in batches.meta,
as many test batches as needed, and fewer images in the last batch.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.data.inert_pickle import Call
from pipeline.data.pictures import PREPROCESSING

MAX_CLASSES = 1_000
MAX_NAME = 100  # characters of a class name
MEMBER = re.compile(r"data_batch_[1-9][0-9]{0,2}|test_batch(_[1-9][0-9]{0,2})?|batches\.meta|train|test|meta")
# Control characters, surrogates, line separators, and characters that reverse the direction of text.
UNFIT = ("Cc", "Cs", "Zl", "Zp")
REVERSING = re.compile("[\u202a-\u202e\u2066-\u2069]")
REMEDY = "Check download.urls and download.sha256 in params.yaml, then run `dvc repro`."
Content = dict[str, object]
Value = TypeVar("Value")


class Layout(NamedTuple):
    """Names of members, and of keys in them."""

    meta: str
    first_batch: str
    test_batch: str
    labels: str
    class_names: str


CIFAR10 = Layout("batches.meta", "data_batch_1", "test_batch", "labels", "label_names")
CIFAR100 = Layout("meta", "train", "test", "fine_labels", "fine_label_names")


class Parts(NamedTuple):
    """Names of the batches in order."""

    train: list[str]
    test: list[str]


def layout_of(member: str) -> Layout:
    """The layout to which the name of a member belongs."""
    return CIFAR100 if member in CIFAR100[:3] else CIFAR10


def read_class_names(meta: Content, layout: Layout) -> list[str]:
    """The class names, checked; `PipelineError` if one cannot be used."""
    names = required(meta, layout.class_names, layout.meta)
    if not isinstance(names, list) or not 2 <= len(names) <= MAX_CLASSES:
        raise invalid(f"{layout.meta} must list 2 to {MAX_CLASSES:,} class names, got {describe(names)}")
    class_names = [_class_name(name, layout.meta) for name in names]
    if len(set(class_names)) < len(class_names):
        repeated = next(name for place, name in enumerate(class_names) if name in class_names[:place])
        raise invalid(f"{layout.meta} names the class {repeated!r} twice")
    return class_names


def _class_name(value: object, meta: str) -> str:
    try:
        name = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise invalid(f"{meta} has the class name {describe(value)}, which is not UTF-8") from None
    if not isinstance(name, str):
        raise invalid(f"{meta} has the class name {describe(value)}, but a name must be text")
    if reason := name_problem(name):
        raise invalid(f"{meta} has the class name {describe(name)}, but {reason}")
    return name


def name_problem(name: str) -> str:
    """Why files, tables and terminals cannot hold this class name; empty if they can."""
    if not 0 < len(name.strip()) == len(name) <= MAX_NAME:
        return f"a name must have 1 to {MAX_NAME} characters and no space at its ends"
    if REVERSING.search(name) or any(unicodedata.category(character) in UNFIT for character in name):
        return "a name must not contain a control character"
    return ""


def read_preprocessing(meta: Content) -> str:
    """What made the images from picture files; empty if the archive does not say it, as CIFAR-10's does not."""
    value = as_text(meta.get("preprocessing", ""))
    if value not in ("", PREPROCESSING):
        raise PipelineError(
            f"the archive's pictures were preprocessed as {describe(value)}, but this version knows "
            f"{PREPROCESSING!r}. Pack them again with `make pack`."
        )
    return str(value)


def read_parts(contents: dict[str, Content], layout: Layout) -> Parts:
    """The batches in order; the title of a first batch, "training batch 1 of 5", says how many there are."""
    train = _batches(contents, layout, layout.first_batch, "training")
    test = _batches(contents, layout, layout.test_batch, "testing")
    members = {name for name in contents if layout_of(name) is layout}
    if unannounced := members - {layout.meta, *train, *test}:
        title = as_text(contents[layout.first_batch]["batch_label"])
        raise invalid(f"the archive has {listed(unannounced)}, but {layout.first_batch} is {title!r}")
    return Parts(train, test)


def _batches(contents: dict[str, Content], layout: Layout, first: str, kind: str) -> list[str]:
    title = as_text(required(required(contents, first), "batch_label", first))
    announced = re.fullmatch(rf"{kind} batch 1 of ([1-9]\d{{0,2}})", title) if isinstance(title, str) else None
    if not announced:
        raise invalid(f'{first} must be titled "{kind} batch 1 of N", got {describe(title)}')
    stem = first.removesuffix("_1")
    names = [first, *(f"{stem}_{number}" for number in range(2, int(announced[1]) + 1))]
    for name in names:
        required(contents, name)
    return names


def require_announced_sizes(meta: Content, layout: Layout, parts: Parts, sizes: Mapping[str, int]) -> None:
    """`PipelineError` if a batch has not as many images as batches.meta says; that of CIFAR-100 says nothing."""
    if layout is CIFAR100:
        return
    rows = _count(meta, "num_cases_per_batch")
    for names, key in ((parts.train, "num_train_images"), (parts.test, "num_test_images")):
        total = _count(meta, key) if key in meta else rows * len(names)
        for number, name in enumerate(names):
            expected = min(rows, total - number * rows)
            if sizes[name] != expected:
                raise invalid(
                    f"{layout.meta} announces {rows:,} images per batch and {total:,} in {len(names)} batches, but "
                    f"{name} has {sizes[name]:,}"
                )
        if total > rows * len(names):
            raise invalid(f"{layout.meta} announces {total:,} images, but there are only {rows * len(names):,}")


def _count(meta: Content, key: str) -> int:
    value = required(meta, key, CIFAR10.meta)
    if type(value) is not int or value < 1:
        raise invalid(f"{CIFAR10.meta}'s {key} must be an integer above 0, got {describe(value)}")
    return value


def as_text(value: object) -> object:
    """Bytes as text; any other value as it is."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def required(mapping: dict[str, Value], key: str, where: str = "the archive") -> Value:
    """The value of the key; `PipelineError` if there is none."""
    if key not in mapping:
        raise invalid(f"{where} has no {key}; it has {listed(mapping) or 'nothing'}")
    return mapping[key]


def listed(names: Iterable[str]) -> str:
    """Some of the names, escaped: they come from the archive."""
    shown = [name if name.isidentifier() or MEMBER.fullmatch(name) else repr(name[:40]) for name in sorted(names)]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


def describe(value: object) -> str:
    """The kind of a value from the archive, and its content only if that is short: it can be huge, or contain itself."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, (bytes, str)):
        return repr(value[:60])
    if isinstance(value, Call):
        return "another object"
    return str(value)[:60] if isinstance(value, (int, type(None))) else type(value).__name__


def invalid(what: str) -> PipelineError:
    return PipelineError(f"{what}: this is not a complete archive in CIFAR-10's format. {REMEDY}")
