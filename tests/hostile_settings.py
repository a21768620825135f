"""A user whose own configuration files and environment variables change what the libraries compute."""

FILES = {
    ".keras/keras.json": '{"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1, "backend": "jax"}',
    ".config/matplotlib/matplotlibrc": "text.usetex: True\nfont.family: serif\nsavefig.dpi: 30\naxes.grid: True\n",
    ".config/matplotlib/stylelib/mine.mplstyle": "lines.linewidth: 9\n",
    ".great_expectations/great_expectations.conf": "[anonymous_usage_statistics]\nenabled = true\n",
}
VARIABLES = {
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "one",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "true",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_USE_LEGACY_KERAS": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "XLA_FLAGS": "--no_such_flag",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4",
    "ORT_LOAD_CONFIG_FROM_MODEL": "1",
    "PANDAS_FUTURE": "no",
    "SCIPY_ARRAY_API": "1",
    "SKLEARN_ASSUME_FINITE": "true",
    "GX_HOME": "/nowhere",
    "GX_ANALYTICS_ENABLED": "true",
    "PYTHONHASHSEED": "7",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",
    "TZ": "Asia/Tokyo",
    "SOURCE_DATE_EPOCH": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def hostile_settings(home):
    """Write the files below the new folder `home`; the variables of that user."""
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    files = {"KERAS_HOME": home / ".keras", "MATPLOTLIBRC": home / ".config/matplotlib/matplotlibrc"}
    return VARIABLES | {"HOME": str(home)} | {name: str(path) for name, path in files.items()}
