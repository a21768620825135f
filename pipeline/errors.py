"""How a user's mistake ends: one message, a non-zero exit code, no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class PipelineError(Exception):
    """Something a user can mend. Its text says what happened, what was expected and what to run."""


@contextmanager
def one_message(name: str) -> Iterator[None]:
    """Turn a mistake within the block into one message on stderr and exit code 1.

    An `OSError` (disk full, no permission) counts as a mistake too; any other exception is a
    defect of ours and keeps its traceback.
    """
    try:
        yield
    except PipelineError as error:
        sys.exit(f"{name}: {error}")
    except FileNotFoundError as error:
        sys.exit(f"{name}: there is no {error.filename}. `dvc repro` makes what is missing.")
    except BrokenPipeError:  # who reads the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{name}: {error}. Free the space or permit the access, then run the same command again.")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; nothing half-written stays. Run the same command to go on.", file=sys.stderr)
        sys.exit(130)


def innermost(error: BaseException) -> str:
    """The first line of the first cause's words: what was raised after it wraps and repeats."""
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(cause, LookupError):
        error = cause
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
