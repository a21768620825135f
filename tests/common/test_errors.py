import errno

import pytest

from pipeline.common.errors import PipelineError, exit_on_error, root_cause


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


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), exit_on_error("stage"):
        _ = 1 / 0
