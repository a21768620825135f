"""params.yaml: strictly validated, one section per stage; and the command line of a stage."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.common.errors import PipelineError, exit_on_error, printable
from pipeline.common.urls import hide_secrets

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from pipeline.common.files import Json

PARAMS_FILE = Path("params.yaml")


class Params(BaseModel):
    """A section of params.yaml: frozen, unknown keys refused, strict types (text is not a number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def of_section(cls, name: str, content: object) -> Self:
        """Validate the content of section `name`; `PipelineError` lists every key that is unknown, missing or wrong."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            lines = "\n".join(f"  {_explain(name, detail)}" for detail in error.errors())
            raise PipelineError(
                f"params.yaml has a wrong value:\n{lines}\nEdit params.yaml, then run the same command again."
            ) from None


def _explain(section: str, error: "ErrorDetails") -> str:
    key = printable(hide_secrets(".".join(str(part) for part in (section, *error["loc"]))))
    if error["type"] == "missing":
        return f"{key} is missing: add it"
    if error["type"] == "extra_forbidden":
        return f"{key} is unknown: remove it, or correct its name"
    if error["type"] == "model_type":
        return f"{key} is {_shown(error['input'])!r}, but it should be a section with keys"
    message = re.sub(r"^(Value error,|Input|List|String) ", "", error["msg"])
    hint = _number_hint(error["input"]) if error["type"].startswith(("int", "float")) else ""
    return f"{key} is {_shown(error['input'])!r}, but it {message}{hint}"


def _shown(value: object) -> object:
    """The value without the secrets of a URL in it."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return {_shown(key): _shown(each) for key, each in value.items()} if isinstance(value, dict) else value


def _number_hint(value: object) -> str:
    """How to write a number that YAML reads as text, such as `1e-3`."""
    try:
        number = Decimal(value) if isinstance(value, str) else Decimal("NaN")
    except InvalidOperation:
        return ""
    return f": write it as {number:f}, without quotes" if number.is_finite() else ""


def read_params(path: Path = PARAMS_FILE) -> "Json":
    """All sections of params.yaml, not yet validated."""
    try:
        with path.open("rb") as file:  # of a stream, YAML's messages do not quote lines, which may contain secrets
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise PipelineError(
            f"{path} does not exist here. `git checkout {path}` restores it, in the folder that contains dvc.yaml."
        ) from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is not YAML: {error}. Fix that line, then run the same command again.") from None
    if not isinstance(content, dict):
        raise PipelineError(
            f"{path} must contain one section per stage, got {_shown(content)!r}. `git checkout {path}` restores it."
        )
    return content


def run_stage(stage: Callable[..., None], params_class: type[Params] | None = None) -> None:
    """`python -m pipeline.STAGE name=path ...`: call `stage` with its section of params.yaml and the named paths."""
    name = stage.__name__
    with exit_on_error(name):
        sections = read_params() if params_class else {}
        if params_class and name not in sections:
            raise PipelineError(f"params.yaml has no section `{name}`: add it, then run the same command again.")
        params = [params_class.of_section(name, sections[name])] if params_class else []
        stage(*params, **named_paths(stage, sys.argv[1:]))


def named_paths(stage: Callable[..., None], words: Sequence[str]) -> dict[str, Path]:
    """Keyword arguments of `stage` from the words `name=path`; a parameter `**inputs` accepts further names.

    Raises `PipelineError` if a word has another form, or a name is missing, unknown or repeated.
    """
    parameters = inspect.signature(stage).parameters.values()
    expected = [each.name for each in parameters if each.name != "params" and each.kind is not each.VAR_KEYWORD]
    accepts_more = any(each.kind is each.VAR_KEYWORD for each in parameters)
    paths = {name: Path(path) for name, _, path in (word.partition("=") for word in words) if name and path}
    names_fit = paths.keys() >= set(expected) if accepts_more else paths.keys() == set(expected)
    if len(paths) != len(words) or not names_fit:
        usage = " ".join([f"{name}=PATH" for name in expected] + ["NAME=PATH ..."] * accepts_more)
        raise PipelineError(
            f"got the arguments {' '.join(words) or '(none)'}, expected {usage}. dvc.yaml and the Makefile show the "
            "whole command."
        )
    return paths
