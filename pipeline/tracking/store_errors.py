"""Messages for failures of the MLflow store: the cause without credentials, and the remedy for that cause."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from pipeline.common.errors import PipelineError, printable, root_cause
from pipeline.common.urls import hide_secrets
from pipeline.tracking.address import EXPECTED, displayed_uri, is_remote, tracking_uri

SHOWN = 200  # characters of a cause
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
AGAIN = "Then run the same command again."
NEW_STORE = "move it away: `dvc repro --force --single-item evaluate export` records your results in a new store."
SERVER = {  # pattern in the cause: remedy, for a tracking server; the first that fits is used
    r"error code 401|\b401\b.*Unauthorized": "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    f"MLFLOW_TRACKING_TOKEN, to a login of that server. {AGAIN}",
    "Invalid Host header|DNS rebinding": "Start the server with `--allowed-hosts` and its name in the address.",
    r"error code 403|\b403\b.*Forbidden|PERMISSION_DENIED": "That login may not do this: ask who runs the server for the "
    "permission.",
    "CERTIFICATE_VERIFY_FAILED|certificate verify failed": "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of "
    f"the authority that signed it. {AGAIN}",
    "certificate|CA bundle|TLS": "MLFLOW_TRACKING_SERVER_CERT_PATH, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE should name a "
    f"file of certificates: correct or unset them. {AGAIN}",
    "WRONG_VERSION_NUMBER|wrong version number": "That port does not use TLS: set MLFLOW_TRACKING_URI to http://...",
    "proxy": f"Correct the variables http_proxy, https_proxy and no_proxy. {AGAIN}",
    "error code 404|not in a valid JSON|[Ee]xpecting value|No API found": "No MLflow server answers at that address: "
    "correct MLFLOW_TRACKING_URI.",
    r"error code 429|too many 429": "The server refuses so many requests: wait, then run the same command again.",
    r"error code 5\d\d|too many 5\d\d": f"The server itself fails: its log says why. {AGAIN}",
    r"refused|not known|resolve|timed out|timeout|unreachable|No route|reset by peer|aborted|closed connection|"
    r"Temporary failure|name resolution": "Start that server or correct MLFLOW_TRACKING_URI, or unset it to record in "
    f"mlflow.db in the repository's root. {AGAIN}",
}
FILE = {  # the same for a sqlite file
    "database is locked": f"Wait until the other program has written to it, or stop that program. {AGAIN}",
    "database or disk is full": f"Free disk space. {AGAIN}",
    "readonly database|attempt to write": "Make the file and its folder writable, or set MLFLOW_TRACKING_URI without "
    f"`mode=ro`. {AGAIN}",
    "unable to open database file": "It should be a file, in a folder in which you can read and write: correct the "
    f"permissions or MLFLOW_TRACKING_URI. {AGAIN}",
    "not a database|malformed": f"Restore a copy of the file, or {NEW_STORE}",
}
ANY = {
    "No space left|Disk quota": f"Free disk space. {AGAIN}",
    "Permission denied|Read-only file system|Operation not permitted": f"Make that path writable. {AGAIN}",
    "Not a directory|Is a directory|File exists": f"Correct MLFLOW_TRACKING_URI, or unset it. {AGAIN}",
    "No module named": "Install that package with `.venv/bin/python -m pip install`, or start the server with "
    "`--artifacts-destination`: then clients need no package for its files.",
    "filesystem tracking backend|unsupported URI|Unity Catalog|Databricks credential": EXPECTED,
}


def store_errors() -> tuple[type[Exception], ...]:
    """The exceptions that MLflow raises if its store fails."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError


@contextmanager
def explain_store_errors() -> Iterator[None]:
    """Turn a failure of the store inside the block into a `PipelineError` that says what to do."""
    try:
        yield
    except FileNotFoundError:
        raise  # a local file, not the store
    except store_errors() as error:
        cause = cause_of(error)
        message = f"cannot record in the MLflow store {displayed_uri()}: {cause}. {_remedy(cause)}"
        raise PipelineError(message.rstrip()) from None


def cause_of(error: BaseException) -> str:
    """The first line of the innermost error, without credentials and control characters."""
    return printable(_without_credentials(root_cause(error)), SHOWN)


def _remedy(cause: str) -> str:
    """What to do about the cause; nothing if it is not known."""
    remedies = (SERVER if is_remote() else FILE) | ANY
    return next((remedy for pattern, remedy in remedies.items() if re.search(pattern, cause)), "")


def _without_credentials(text: str) -> str:
    """The text without the parts of the address that are hidden, without other logins and queries of URLs."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return re.sub(r"\w[\w+.-]*://[^\s'\"<>]+", lambda url: hide_secrets(url[0]), text)


def _secrets() -> set[str]:
    """What must not be shown of the environment's credentials and of the tracking URI: its login, its query, parts."""
    hidden = [os.environ.get(name, "") for name in CREDENTIALS]
    if is_remote():
        rest = re.sub(r"^[\w+.-]+://", "", tracking_uri())
        login = rest.rpartition("@")[0]
        query = "".join(re.split("[?#]", rest, maxsplit=1)[1:])
        for text in (login, unquote(login)):
            hidden += [text, *re.split("[:/@?#&=]", text)]
        for text in (query, unquote(query)):
            hidden += [text, *re.findall("=([^&#]*)", text)]
    return set(filter(None, hidden))
