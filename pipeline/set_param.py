"""Set one whole number in params.yaml, as `dvc exp run -S` does: python -m pipeline.set_param SECTION KEY NUMBER"""

import sys

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.packing.params_file import write_settings


def set_param(section: str, key: str, number: str) -> None:
    """Write the number; comments and all other values stay. `PipelineError` if it is not one."""
    if not number.isdecimal():
        raise PipelineError(f"{section}.{key} should become {number!r}, but it should be a whole number, such as 20.")
    write_settings({section: {key: int(number)}})


if __name__ == "__main__":
    with exit_on_error("params"):
        set_param(*sys.argv[1:])
