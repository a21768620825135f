import errno

import pytest

from pipeline.errors import PipelineError, one_message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("no such thing"), "stage: no such thing"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npz"), "No space left on device: 'a.npz'. Free the space"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "a.npz"),
            "stage: there is no a.npz. `dvc repro` makes what is missing.",
        ),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_mistake_ends_in_one_message_without_a_traceback(error, code):
    with pytest.raises(SystemExit) as end, one_message("stage"):
        raise error
    assert end.value.code == code if isinstance(code, int) else code in end.value.code


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_message("stage"):
        _ = 1 / 0
