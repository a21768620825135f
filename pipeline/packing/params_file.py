"""Values in params.yaml: set in its text, so that everything else in it stays as the user wrote it."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, atomic_outputs
from pipeline.common.params import PARAMS_FILE

Settings = Mapping[str, Json]  # values by section and key


def as_yaml(settings: Settings) -> str:
    """The settings as text to copy into params.yaml."""
    lines = []
    for section, keys in settings.items():
        lines += [f"{section}:", *(f"  {key}: {_value(value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def write_settings(settings: Settings, path: Path = PARAMS_FILE) -> None:
    """Set these keys in params.yaml; `PipelineError` if its sections are not indented blocks of keys."""
    path = path.resolve()  # a link stays one
    text = path.read_bytes().decode()
    before = yaml.safe_load(text)
    wanted = before | {section: _mapping(before.get(section)) | keys for section, keys in settings.items()}
    for section, keys in settings.items():
        for key, value in keys.items():
            text = _with_value(text, section, key, value)
    if not _has_content(text, wanted):
        raise PipelineError(
            f"these sections cannot be set in {path}: {', '.join(settings)}. Each should be there once, as a block of "
            f"indented keys. `git checkout {path.name}` restores them; or leave out WRITE=1 and set them by hand."
        )
    with atomic_outputs(path) as (draft,):
        draft.write_bytes(text.encode())
        draft.chmod(path.stat().st_mode)


def _mapping(content: object) -> Json:
    return content if isinstance(content, dict) else {}


def _has_content(text: str, wanted: Json) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except yaml.YAMLError:
        return False


def _with_value(text: str, section: str, key: str, value: object) -> str:
    """The text with another value of the key; without the key, that is a new first line of the section."""
    content = _child(yaml.compose(text, yaml.SafeLoader), section)
    if not isinstance(content, yaml.MappingNode) or content.flow_style:
        return text
    node = _child(content, key)
    if node is None:
        start = end = content.start_mark.index
        new = f"{key}: {_value(value)}\n{' ' * content.start_mark.column}"
    else:
        start, end = node.start_mark.index, _end(node)
        in_block = isinstance(node, yaml.SequenceNode) and not node.flow_style
        new = f"- {_value(value)[1:-1]}" if in_block else (" " if start == end else "") + _value(value)
    return text[:start] + new + text[end:]


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a key in a mapping; of a repeated key the last value, as for the other readers of the file."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}.get(name)


def _end(node: yaml.Node) -> int:
    """Where the text of a value ends; PyYAML counts comments behind a block to the block."""
    is_block = isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value
    return _end(node.value[-1]) if is_block else node.end_mark.index


def _value(value: object) -> str:
    """The value in YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
