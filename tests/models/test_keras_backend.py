import os
import signal
import subprocess
import sys
import time

import pytest
from projects import ROOT

from pipeline.models.keras_backend import filtered_stderr, hidden_modules

NODE_DEF = (
    b"E0000 00:00:1795611861.123616   19376 node_def_util.cc:682] NodeDef mentions attribute "
    b"use_unbounded_threadpool which is not in the op definition: " + b"x" * 560 + b"\n"
)


def test_start_up_prints_nothing_and_later_errors_show():
    code = (
        "import sys; from pipeline.models.keras_backend import start_keras; start_keras().ops.ones(1)\n"
        "print('end', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "end\n")


def test_start_up_leaves_out_what_keras_needs_only_for_other_projects():
    code = (
        "import sys; from pipeline.models.keras_backend import UNUSED, start_keras; start_keras()\n"
        "print(sorted(set(UNUSED) & set(sys.modules)))\n"
        "import matplotlib, pandas, sklearn"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def failing_import():
    with hidden_modules(["colorsys", "json"]):
        import json  # imported before, so it stays

        assert json.loads("1") == 1
        import colorsys  # noqa: F401


def test_a_hidden_module_can_be_imported_after_the_block_also_if_it_fails():
    sys.modules.pop("colorsys", None)
    with pytest.raises(ImportError, match="colorsys"):
        failing_import()
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_log_lines_of_tensorflow_are_dropped(capfd):
    assert len(NODE_DEF) > 700
    with filtered_stderr():
        os.write(2, b"I0000 00:00:1.2 5 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, NODE_DEF)
        os.write(2, b"E0000 00:00:1.2 5 memory.cc:9] out of memory\n")
        os.write(2, b"E0000 00:00:1.2 5 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)\n")
    assert capfd.readouterr().err == "E0000 00:00:1.2 5 memory.cc:9] out of memory\n"


def read_while(capture, expected):
    """What was written to stderr, once it has the expected length, or after 10 seconds."""
    written, end = b"", time.monotonic() + 10
    while len(written) < len(expected) and time.monotonic() < end:
        written += capture.readouterr().err
        time.sleep(0.01)
    return written


def test_other_lines_pass_at_once_in_order_whatever_their_bytes(capfdbinary):
    with filtered_stderr():
        os.write(2, b"one\n")
        assert read_while(capfdbinary, b"one\n") == b"one\n"
        print("two", file=sys.stderr, flush=True)
        os.write(2, NODE_DEF + b"caf\xe9 \xff\xfe \x00 three\n")
        expected = b"two\ncaf\xe9 \xff\xfe \x00 three\n"
        assert read_while(capfdbinary, expected) == expected
    print("four", file=sys.stderr, flush=True)
    assert capfdbinary.readouterr().err == b"four\n"


def test_lines_of_a_child_process_are_filtered_too(capfdbinary):
    code = f"import os; os.write(2, {NODE_DEF!r}); os.write(2, b'of the child\\n')"
    with filtered_stderr():
        subprocess.run([sys.executable, "-c", code], check=True)
    assert capfdbinary.readouterr().err == b"of the child\n"


def write_and_fail():
    os.write(2, b"a library is missing\n")
    raise ImportError("no tensorflow")


def test_lines_pass_if_the_block_fails(capfd):
    with pytest.raises(ImportError), filtered_stderr():
        write_and_fail()
    assert capfd.readouterr().err == "a library is missing\n"


def test_lines_pass_if_the_process_crashes():
    code = (
        "import os; from pipeline.models.keras_backend import filtered_stderr\n"
        "with filtered_stderr():\n    os.write(2, b'fatal\\n'); os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGABRT, b"fatal\n")


INTERRUPTED = """
import os, time
from pipeline.common.errors import exit_on_error
from pipeline.models.keras_backend import filtered_stderr
with exit_on_error("train"), filtered_stderr():
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.2)  # a filter that the signal ends has ended by now
        os.write(2, b"inside the block\\n")
"""


def test_ctrl_c_loses_no_message():
    """A terminal sends SIGINT to the whole process group, so to children too."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "started\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[0] == "inside the block"
    assert errors.splitlines()[2].startswith("train: interrupted;")
    assert len(errors.splitlines()) == 3


def test_the_block_ends_although_a_child_process_keeps_stderr(capfdbinary):
    with filtered_stderr():
        child = subprocess.Popen(["sleep", "60"])
        os.write(2, b"one\n")
    assert child.poll() is None
    child.kill()
    child.wait()
    assert capfdbinary.readouterr().err == b"one\n"
