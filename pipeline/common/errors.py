"""User errors: one message, a non-zero exit code, no traceback."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from pipeline.common.environment import ignore_user_settings

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class PipelineError(Exception):
    """An error that the user can fix. The message says what happened, what was expected and what to run."""


@contextmanager
def exit_on_error(name: str) -> Iterator[None]:
    """Turn a user error inside the block into one message on stderr and exit code 1.

    An `OSError` (disk full, no permission) is a user error too. Any other exception is a bug and
    keeps its traceback. Every command starts here, so this also sets a user's own settings aside.
    """
    ignore_user_settings()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal or a pipe that is not UTF-8
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()
    except PipelineError as error:
        sys.exit("\n".join(printable(line) for line in f"{name}: {error}".split("\n")))
    except FileNotFoundError as error:
        sys.exit(f"{name}: {printable(str(error.filename))} does not exist. `dvc repro` creates missing files.")
    except BrokenPipeError:  # the reader of the output has exited, as `head` does
        discard_output()
        sys.exit(1)
    except OSError as error:
        discard_output()
        sys.exit(f"{name}: {printable(str(error))}.{_remedy(error)}")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; no partial files remain. Run the same command to continue.", file=sys.stderr)
        sys.exit(130)


def _remedy(error: OSError) -> str:
    if error.errno in FULL:
        return " Free disk space, then run the same command again."
    return " Fix the permissions, then run the same command again." if error.errno in FORBIDDEN else ""


def discard_output() -> None:
    """Discard printed text that cannot be written: at exit, Python would try again and print the error."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def root_cause(error: BaseException) -> str:
    """First line of the message of the exception that started the chain; later ones wrap and repeat it."""
    while not error.__suppress_context__ or error.__cause__:  # `raise ... from None` starts a chain
        cause = error.__cause__ or error.__context__
        if cause is None or isinstance(cause, LookupError):
            break
        error = cause
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def printable(text: str, limit: int | None = None) -> str:
    """The text on one line, with control and other invisible characters escaped, cut after `limit` characters."""
    shown = text if limit is None or len(text) <= limit else f"{text[:limit]} ..."
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)
