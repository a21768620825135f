"""Values in params.yaml, set as DVC sets them: by ruamel.yaml, which keeps comments."""

import io
from collections.abc import Mapping
from pathlib import Path

import yaml
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.scalarstring import SingleQuotedScalarString

from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, atomic_outputs
from pipeline.common.params import PARAMS_FILE

Settings = Mapping[str, Json]  # values by section and key


def as_yaml(settings: Settings) -> str:
    """The settings as text to copy into params.yaml."""
    text = io.StringIO()
    _yaml().dump(
        {section: {key: _value(each) for key, each in keys.items()} for section, keys in settings.items()}, text
    )
    return text.getvalue()


def write_settings(settings: Settings, path: Path = PARAMS_FILE) -> None:
    """Set these keys in params.yaml; comments stay, except in and behind a list that changes, and all other values too.

    `PipelineError` if a section is missing.
    """
    path = path.resolve()  # a link stays one
    try:
        content = _yaml().load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise PipelineError(f"{path} cannot be changed: {error}. `git checkout {path.name}` restores it.") from None
    for section, keys in settings.items():
        if not isinstance(content.get(section), dict):
            raise PipelineError(f"{path} has no section `{section}`. `git checkout {path.name}` restores it.")
        content[section].update({key: _value(value) for key, value in keys.items()})
    with atomic_outputs(path) as (draft,):
        with draft.open("w", encoding="utf-8") as file:
            _yaml().dump(content, file)
        draft.chmod(path.stat().st_mode)


def _yaml() -> YAML:
    """YAML in the form of this project's files."""
    ruamel = YAML()
    ruamel.width, ruamel.preserve_quotes = 1_000, True  # no line is broken
    ruamel.indent(mapping=2, sequence=4, offset=2)
    ruamel.representer.add_representer(
        type(None), lambda found, _: found.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return ruamel


def _value(value: object) -> object:
    """A list of numbers on one line; a text in quotes if PyYAML writes it so, such as "no" or "@x"."""
    if isinstance(value, str) and yaml.safe_dump(value, allow_unicode=True).startswith(("'", '"')):
        return SingleQuotedScalarString(value)
    if not isinstance(value, list) or not all(isinstance(each, float) for each in value):
        return value
    row = CommentedSeq(value)
    row.fa.set_flow_style()
    return row
