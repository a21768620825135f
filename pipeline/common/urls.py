"""URLs without secrets: DVC copies params.yaml to dvc.lock, which is committed, and messages reach logs."""

import re
from urllib.parse import unquote

from pipeline.common.errors import printable

PARTS = re.compile(r"([\w+.-]+://)?(.*@)?([^?#]*)(.*)", re.DOTALL)  # of a URL; it matches every text
VARIABLE = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII)  # `${NAME}` would break `dvc exp run -S`, which expands it
SECRET_NAME = re.compile("sig|token|secret|pass|pwd|auth|cred|key|session|login|user|jwt|hmac|code", re.IGNORECASE)
SECRET_LENGTH = 20  # characters; from this length on, a value in a query is taken for a secret


def hide_secrets(text: str) -> str:
    """A URL, or text that was meant as one, with `***` for what may be a login or a signature."""
    scheme, login, place, query = PARTS.fullmatch(text).groups("")  # type: ignore[union-attr]
    if re.search("[?#]", login):  # an `@` in the query
        return f"{scheme}***"
    return f"{scheme}{'***@' * bool(login)}{place}{query[:1]}{'***' * bool(query[1:])}"


def shown_url(url: str) -> str:
    """The URL for messages: on one line, without secrets."""
    return printable(hide_secrets(url))


def check_url(url: str) -> str:
    """The URL of a mirror; `ValueError` if it has an unknown scheme, or a secret that is not in a variable `{NAME}`."""
    if not url.startswith(("http://", "https://", "file:///")):
        raise ValueError("should start with http://, https:// or file:///")
    if "${" in url:
        raise ValueError("should name an environment variable as {NAME}, without `$`")
    if url.startswith("file:"):
        return url
    literal = VARIABLE.sub("", url)
    if "@" in re.sub("^https?://:?@", "", literal):
        raise ValueError(
            "should not contain a login: put it in ~/.netrc, or write https://{NAME}@host for the environment variable "
            "NAME with user:password; write %40 for an @ in a path"
        )
    query = re.split("[?#]", literal, maxsplit=1)[1:]
    if any(_may_be_secret(unquote(pair)) for pair in re.split("[?#&;]", "".join(query))):
        raise ValueError(
            "should not contain a query that may be secret: write https://host/file?{NAME} for the environment "
            "variable NAME with the query"
        )
    return url


def _may_be_secret(pair: str) -> bool:
    name, equals, value = pair.partition("=")
    value = value if equals else name
    return len(value) >= SECRET_LENGTH or (bool(value) and bool(SECRET_NAME.search(name)))
