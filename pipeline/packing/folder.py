"""The pictures in a folder: FOLDER/<class>/<picture>, or FOLDER/train/<class>/<picture> and FOLDER/test/...

The layout is that of `keras.utils.image_dataset_from_directory` and of torchvision's ImageFolder.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.common.errors import PipelineError, printable
from pipeline.data.archive_layout import MAX_CLASSES, name_problem

LAYOUT = "Expected is {0}/<class>/<picture>, or {0}/train/<class>/<picture> and {0}/test/<class>/<picture>."
SEPARATORS = re.compile(r"[\s_-]+")  # between the words of a name
SHOWN = 20  # lines of a list in a message


class Picture(NamedTuple):
    """A file, its class as an index of the class names, and its part: "train", "test", or "" if that is to be chosen."""

    path: Path
    label: int
    part: str


class Problem(NamedTuple):
    """A file that cannot be packed, and why."""

    path: Path
    reason: str


class Found(NamedTuple):
    """What is in a folder; the pictures are in the order of their file names, then of their classes."""

    class_names: list[str]
    pictures: list[Picture]
    problems: list[Problem]


def find_pictures(folder: Path) -> Found:
    """All files in the class folders, without hidden ones; `PipelineError` if the folder has another layout."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise PipelineError(f"the folder {folder} {what}. {LAYOUT.format(folder)}")
    has_parts = {path.name for path in _folders(folder)} == {"train", "test"}
    parts = {name: folder / name for name in ("train", "test")} if has_parts else {"": folder}
    classes = {part: {path.name: path for path in _folders(path)} for part, path in parts.items()}
    class_names = sorted({name for each in classes.values() for name in each})
    _require_class_names(folder, class_names)
    pictures, problems = list[Picture](), list[Problem]()
    for part, paths in classes.items():
        for label, name in enumerate(class_names):
            if name not in paths:
                raise PipelineError(f"{parts[part]} has no folder of the class {name}, but the other part has one.")
            for path in _files(paths[name], folder):
                if _is_link_out(path, folder):
                    problems.append(Problem(path, "it is a link out of the folder: copy the file"))
                else:
                    pictures.append(Picture(path, label, part))
    return Found(class_names, sorted(pictures, key=lambda each: (os.fsencode(each.path.name), each[1:])), problems)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path, root: Path) -> list[Path]:
    if _is_link_out(folder, root):
        raise PipelineError(f"the class folder {folder} is a link out of {root}. Copy the folder.")
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    if nested := [entry.name for entry in visible if Path(entry.path).is_dir()]:
        raise PipelineError(
            f"the class folder {folder} contains the folder {min(nested)}, but only pictures are expected there. "
            f"{LAYOUT.format(root)}"
        )
    if not visible:
        raise PipelineError(f"the class folder {folder} contains no pictures. Delete it, or add pictures.")
    return [Path(entry.path) for entry in visible]


def _is_link_out(path: Path, root: Path) -> bool:
    # Path.resolve raises RuntimeError for a link to itself.
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _require_class_names(folder: Path, names: list[str]) -> None:
    if not 2 <= len(names) <= MAX_CLASSES:
        raise PipelineError(
            f"{folder} has {len(names):,} class folders, but 2 to {MAX_CLASSES:,} are needed"
            f"{f': {names[0]}' if len(names) == 1 else ''}. {LAYOUT.format(folder)}"
        )
    for name in names:
        if reason := name_problem(name):
            wrong = "its name is not UTF-8" if not _is_utf8(name) else reason
            raise PipelineError(f"the class folder {name!r} cannot be used: {wrong}. Rename it.")
    by_spelling: dict[str, list[str]] = {}
    for name in names:
        by_spelling.setdefault(_spelling(name), []).append(name)
    if alike := [", ".join(each) for each in by_spelling.values() if len(each) > 1]:
        raise PipelineError(
            f"some class folders look like spellings of one class:\n{shown_list(alike)}\nMerge or rename them."
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _spelling(name: str) -> str:
    """What spellings of a name share: its letters without case or Unicode's form, and where its words end."""
    return SEPARATORS.sub(" ", unicodedata.normalize("NFKC", name).casefold())


def shown_list(lines: Iterable[str]) -> str:
    """Some of the lines, indented, and how many more there are."""
    every = [f"  {printable(line)}" for line in lines]
    more = [f"  ... and {len(every) - SHOWN:,} more"] if len(every) > SHOWN else []
    return "\n".join(every[:SHOWN] + more)
