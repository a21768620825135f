import errno
import os
import subprocess
import sys

import pytest
from projects import ROOT

from pipeline.common.errors import PipelineError, exit_on_error, printable, root_cause


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("no such thing"), "stage: no such thing"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.npz"),
            "No space left on device: 'a.npz'. Free disk space",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a.npz"),
            "stage: a.npz does not exist. `dvc repro` creates missing files.",
        ),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_user_error_becomes_one_message_and_an_exit_code(error, code):
    with pytest.raises(SystemExit) as end, exit_on_error("stage"):
        raise error
    assert end.value.code == code if isinstance(code, int) else code in end.value.code


def test_an_interrupted_command_says_so(capsys):
    with pytest.raises(SystemExit), exit_on_error("stage"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.startswith("\nstage: interrupted; no partial files remain.")


def test_the_root_cause_is_the_first_line_of_the_first_exception():
    error = RuntimeError("cannot write")
    error.__cause__ = ValueError("disk is full.\nmore")
    assert root_cause(error) == "disk is full"


def test_the_root_cause_does_not_follow_an_exception_that_was_replaced():
    error = ValueError("not an image")
    error.__context__ = OSError("cannot identify")
    error.__suppress_context__ = True  # raise ... from None
    assert root_cause(error) == "not an image"


def test_output_that_cannot_be_written_is_one_message():
    code = "from pipeline.common.errors import exit_on_error\nwith exit_on_error('stage'):\n    print('text')"
    command = ["env", "--unset=PYTHONUNBUFFERED", sys.executable, "-c", code]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("stage: [Errno 28] No space left on device. Free disk space")


def test_a_name_that_the_terminal_cannot_show_is_escaped():
    code = "from pipeline.common.errors import exit_on_error\nwith exit_on_error('a'):\n    print('caf\\xe9 \\udcff')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "caf\\xe9 \\udcff\n", "")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), exit_on_error("stage"):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ünï 中 'q\".png", "ünï 中 'q\".png"),
        ("a\nb\r\t", r"a\nb\r\t"),
        ("\x1b[31mred\x07\x00", r"\x1b[31mred\x07\x00"),
        ("\x9b1m\u2028\u202e", r"\x9b1m\u2028\u202e"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_invisible_characters_are_escaped(text, shown):
    assert printable(text) == shown


def test_a_long_text_is_cut():
    assert (printable("a" * 10, 9), printable("a" * 9, 9)) == ("a" * 9 + " ...", "a" * 9)
