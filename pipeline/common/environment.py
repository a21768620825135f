"""A user's own settings of Python and the libraries: those that decide results are ignored.

Settings of speed, memory, devices and logs stay the user's. docs/reliability.md lists them.
"""

import locale
import os
import re
import sys

IGNORED = re.compile(
    r"(KERAS|TF(?!_CPP_|_GPU_|_FORCE_GPU_)|TF2ONNX|XLA|ONEDNN|DNNL|NVIDIA_TF32|ORT|GX|PANDAS|SCIPY|SKLEARN)_"
)
READ_AT_START = re.compile(r"NPY_|PYTHON(IOENCODING|OPTIMIZE|WARNINGS)$")  # by Python, or by NumPy's import
SET = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,  # no keras.json is below it, and none can be written
    "MATPLOTLIBRC": os.devnull,  # an empty configuration file
    "MPLBACKEND": "agg",  # a notebook sets one that is not installed here
    "GX_ANALYTICS_ENABLED": "false",
}


def ignore_user_settings() -> None:
    """Call it before libraries are imported, because they read their variables then. It may start the command again."""
    for name in filter(IGNORED.match, list(os.environ)):
        del os.environ[name]
    os.environ.update(SET)
    main = sys.modules["__main__"].__spec__
    if main and main.name.startswith("pipeline."):
        _start_again_if_needed()


def _start_again_if_needed() -> None:
    """Replace the process `python -m pipeline.COMMAND` if Python or NumPy has already read a setting to ignore."""
    kept = {name: value for name, value in os.environ.items() if not READ_AT_START.match(name)}
    is_utf8 = sys.flags.utf8_mode or re.fullmatch("utf-?8", locale.getencoding(), re.IGNORECASE)
    if len(kept) < len(os.environ) or not (is_utf8 or kept.get("PYTHONUTF8") == "1"):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept | {"PYTHONUTF8": "1"})
