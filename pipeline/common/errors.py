"""User errors: one message, a non-zero exit code, no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class PipelineError(Exception):
    """An error that the user can fix. The message says what happened, what was expected and what to run."""


@contextmanager
def exit_on_error(name: str) -> Iterator[None]:
    """Turn a user error inside the block into one message on stderr and exit code 1.

    An `OSError` (disk full, no permission) is a user error too. Any other exception is a bug and
    keeps its traceback.
    """
    try:
        yield
    except PipelineError as error:
        sys.exit(f"{name}: {error}")
    except FileNotFoundError as error:
        sys.exit(f"{name}: {error.filename} does not exist. `dvc repro` creates missing files.")
    except BrokenPipeError:  # the reader of the output has exited, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{name}: {error}. Free disk space or fix the permissions, then run the same command again.")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; no partial files remain. Run the same command to continue.", file=sys.stderr)
        sys.exit(130)


def root_cause(error: BaseException) -> str:
    """First line of the message of the exception that started the chain; later ones wrap and repeat it."""
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(cause, LookupError):
        error = cause
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
