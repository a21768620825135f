"""params.yaml: strictly checked, one section per stage."""

import re
import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import PipelineError, one_message

PARAMS_FILE = Path("params.yaml")


class Params(BaseModel):
    """A section of params.yaml: frozen, unknown keys refused, types strict (text is no number)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def of_section(cls, name: str, content: Any) -> Self:
        """Check a section's content.

        Raises:
            PipelineError: names every key that is unknown, missing or has a wrong value.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            lines = "\n".join(f"  {line}" for line in map(_explain(name), error.errors()))
            raise PipelineError(
                f"params.yaml has a wrong value:\n{lines}\nEdit params.yaml, then run `dvc repro`."
            ) from None


def _explain(section: str) -> Callable[[Any], str]:
    def line(error: Any) -> str:
        key = ".".join(str(part) for part in (section, *error["loc"]))
        if error["type"] == "missing":
            return f"{key} is missing: add it"
        if error["type"] == "extra_forbidden":
            return f"{key} is unknown: remove it, or correct its name"
        if error["type"] == "model_type":
            return f"{section} is {error['input']!r}, but it should be a section with keys"
        message = re.sub(r"^(Value error,|Input|List|String) ", "", error["msg"])
        hint = _number_hint(error["input"]) if error["type"].startswith(("int", "float")) else ""
        return f"{key} is {error['input']!r}, but it {message}{hint}"

    return line


def _number_hint(value: Any) -> str:
    """YAML reads `1e-3` as text: say how to write it."""
    try:
        number = Decimal(value) if isinstance(value, str) else Decimal("NaN")
    except InvalidOperation:
        return ""
    return f": write it as {number:f}, without quotes" if number.is_finite() else ""


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """All sections of params.yaml, unchecked."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(
            f"there is no {path} here. `git checkout {path}` restores it, in the folder that holds dvc.yaml."
        ) from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is not YAML: {error}. Mend that line, then run `dvc repro`.") from None
    if not isinstance(content, dict):
        raise PipelineError(
            f"{path} must hold one section per stage, got {content!r}. `git checkout {path}` restores it."
        )
    return content


def run_stage(verb: Callable[..., None], params_class: type[Params]) -> None:
    """`python -m pipeline.VERB PATH...`: call `verb` with its section and the paths that dvc.yaml gives."""
    name = verb.__name__
    with one_message(name):
        sections = read_params()
        if name not in sections:
            raise PipelineError(f"params.yaml has no section `{name}`: add it, then run `dvc repro`.")
        verb(params_class.of_section(name, sections[name]), *map(Path, sys.argv[1:]))
