"""The address of the MLflow store: a sqlite file, by default mlflow.db in the repository, or a tracking server."""

import os
import re
import sysconfig
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.common.errors import PipelineError, printable
from pipeline.common.urls import hide_secrets

SQLITE = re.compile(r"sqlite:///(file:)?(?!:memory:)([^?]+)(\?.*)?")
DATABASE_SERVERS = ("postgresql", "postgres", "mysql", "mssql")
EXPECTED = "Set it to https://HOST or sqlite:///FILE, or unset it to record in mlflow.db in the repository's root."


def repository_root() -> Path:
    """The root of the repository, also from the temporary folders in which `dvc exp run` works."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI or mlflow.db; a relative sqlite path starts at the root of the repository."""
    file, found = sqlite_file(), SQLITE.fullmatch(_given_uri())
    return sqlite_uri(file) + (found[3] or "") if file and found and not found[1] else _given_uri()


def portable_uri() -> str:
    """The same address for a process that works in another folder."""
    file, found = sqlite_file(), SQLITE.fullmatch(_given_uri())
    if not file or not found or found[1]:
        return _given_uri()
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F") + (found[3] or "")


def sqlite_uri(file: Path) -> str:
    """The URI of a database, relative to the working directory if its path contains `?` or `%`.

    `?` starts the query of a URI, and MLflow (3.17) makes a folder of that name if it is written as `%3F`.
    """
    return f"sqlite:///{os.path.relpath(file) if set('?%') & set(str(file)) else file}"


def sqlite_file() -> Path | None:
    """The file of a sqlite store, also for the form `sqlite:///file:...?mode=ro&uri=true`."""
    found = SQLITE.fullmatch(_given_uri())
    if not found:
        return None
    path = unquote(found[2])  # as SQLAlchemy (2.1) does
    return Path(unquote(path)).resolve() if found[1] else (repository_root() / path).resolve()


def is_remote() -> bool:
    """Whether a tracking server holds the runs, rather than a database that this process opens."""
    return sqlite_file() is None


def displayed_uri() -> str:
    """The tracking URI for messages."""
    file = sqlite_file()
    return printable(f"sqlite:///{file}" if file else hide_secrets(_given_uri()))


def require_usable_address() -> None:
    """Raise `PipelineError` if MLflow cannot use the address, or if others could not use what is recorded there."""
    scheme, file = re.split("[:+]", _given_uri())[0].lower(), sqlite_file()
    if file:
        _require_usable_path(file)
    elif scheme == "sqlite":
        raise PipelineError(f"MLFLOW_TRACKING_URI is {displayed_uri()}, which does not name a file. {EXPECTED}")
    elif scheme in ("http", "https") and not _has_host(_given_uri()):
        raise PipelineError(
            f"MLFLOW_TRACKING_URI is {displayed_uri()}, which is not a valid address. It should be like "
            "http://HOST:5000; write %40 for an `@` and %2F for a `/` in a password."
        )
    elif scheme in DATABASE_SERVERS:
        raise PipelineError(
            f"MLFLOW_TRACKING_URI is the database {displayed_uri()}. The files of runs and models would stay on this "
            "machine, so others could not use them. Start `mlflow server` for that database (docs/pipeline.md, Teams) "
            "and set MLFLOW_TRACKING_URI to the http address of that server."
        )


def _given_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def _has_host(uri: str) -> bool:
    try:
        address = urlsplit(uri)
        return bool(address.hostname) and address.port != 0
    except ValueError:
        return False


def _require_usable_path(file: Path) -> None:
    """Raise `PipelineError` if MLflow (3.17) cannot work with a database, and with artifacts, in that folder."""
    packages = sysconfig.get_path("purelib")
    if re.search("[\ud800-\udfff]", str(file)):
        reason = "its name is not UTF-8"
    elif escape := re.search("%[0-9A-Fa-f]{2}", str(file)):
        reason = f"MLflow reads `{escape[0]}` in a path as `{printable(unquote(escape[0], errors='replace'))}`"
    elif set("?%") & set(os.path.relpath(file)):
        reason = f"from the folder {printable(os.getcwd())} it cannot open a path with `?` or `%`"
    elif "%" in packages:
        reason = f"MLflow is installed in {printable(packages)}, and it cannot read its own files there because of `%`"
    else:
        return
    raise PipelineError(
        f"MLflow cannot record in {printable(str(file))}: {reason}. Rename that folder, or set MLFLOW_TRACKING_URI to "
        "a tracking server."
    )
