"""`store.url`: which databases it may mean. What cannot be used is told with its line, at a reload as at a start."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from bridge.advice.said import said
from bridge.config.values import BadValue, SecretText
from bridge.secret import Secret

POSTGRESQL, SQLITE = SCHEMES = ("postgresql", "sqlite")
"""The first word of a URL, without its driver."""


def scheme_of(url: Secret[str]) -> str:
    """`postgresql` of postgresql+psycopg://…"""
    return url.reveal().partition("://")[0].partition("+")[0]


def _store_url(value: Secret[str]) -> Secret[str]:
    scheme = scheme_of(value)
    if "://" not in value.reveal():
        raise _no_url()
    if scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        quoting = said("no store named {scheme}; possible here: {known}", scheme=repr(scheme), known=known)
        raise BadValue(quoting, said("no store has this name; possible here: {known}", known=known))
    _check_parts(value)
    return value


StoreUrl = Annotated[SecretText, AfterValidator(_store_url)]
"""A URL that SQLAlchemy accepts. It may hold a password, with any character but @."""


def _check_parts(value: Secret[str]) -> None:
    """Read the parts as the library does that opens the store. Raises: BadValue."""
    import sqlalchemy as sa  # late: a fifth of the program's memory, and few have such a URL

    try:
        url = sa.make_url(value.reveal())
    except (sa.exc.ArgumentError, ValueError):  # a ValueError quotes a bad port: part of a password
        raise _no_url() from None
    if scheme_of(value) == SQLITE:
        _check_file(url.database)
        return
    if url.port is not None and not 0 < url.port < 65536:
        raise _no_url()
    try:
        import psycopg  # noqa: F401  with the C library that it needs
    except ImportError:
        raise BadValue(said("PostgreSQL needs `{command}`", command=_installation("psycopg[binary]"))) from None


def _installation(package: str) -> str:
    """The command that installs it where mail-bridge runs. The package is not our extra, for which mail-bridge itself
    would be looked for in an index where we never published it."""
    if Path(sys.prefix, "pipx_metadata.json").exists():  # pipx forgets what others install there
        return f'pipx inject {Path(sys.prefix).name} "{package}"'
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    if importlib.util.find_spec("pip") is None:  # as in what uv makes
        return f'uv pip install --python {python} "{package}"'
    return f'{python} -m pip install "{package}"'


def _check_file(file: str | None) -> None:
    """Raises: BadValue for a relative path. All other paths are relative to the configuration's directory, of which a
    URL knows nothing: a command started in another directory would create a store of its own."""
    if not file or file == ":memory:":
        raise BadValue(said("{backend} is not supported; use postgresql+psycopg, or `path` for a file", backend=SQLITE))
    if not Path(file).is_absolute():
        raise BadValue(
            said(
                "which file {file} is depends on the directory that mail-bridge is started in; name it under "
                "`store.path` instead",
                file=file,
            ),
            said(
                "which file it is depends on the directory that mail-bridge is started in; name it under `store.path` "
                "instead"
            ),
        )


def _no_url() -> BadValue:
    return BadValue(said("is not a URL such as {example}", example="postgresql+psycopg://user@host/database"))
