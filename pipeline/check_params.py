"""Check every section of params.yaml before the first stage starts: python -m pipeline.check_params"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.params import Params, read_params
from pipeline.tracking.address import require_usable_address


def section_classes() -> dict[str, type[Params]]:
    """The params class of each command by section name: `NearDuplicatesParams` in pipeline/near_duplicates.py."""
    found = {}
    for command in iter_modules([str(Path(__file__).parent)]):
        if not command.ispkg:
            class_name = command.name.title().replace("_", "") + "Params"
            if params_class := getattr(import_module(f"pipeline.{command.name}"), class_name, None):
                found[command.name] = params_class
    return found


def check_params() -> None:
    """Raise `PipelineError` with everything that is wrong in params.yaml."""
    sections, classes = read_params(), section_classes()
    wrong = [f"section `{name}` is unknown: remove it, or correct its name" for name in sections if name not in classes]
    for name in sorted(classes, key=[*sections, *classes].index):  # in the order of params.yaml
        try:
            classes[name].of_section(name, sections.get(name, {}))
        except PipelineError as error:
            wrong.append(str(error))
    if wrong:
        raise PipelineError("\n".join(wrong))


if __name__ == "__main__":
    with exit_on_error("params"):
        require_usable_address()  # not after the stages before train
        check_params()
