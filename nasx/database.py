"""Where a record's database is, and why it cannot be reached: told without its password."""

from __future__ import annotations

import re
from typing import Any

from nasx.errors import NasxError

EXAMPLE = "postgresql+psycopg://user@host/database"
PATIENCE = 10  # seconds to wait for a server's first answer; drivers wait for minutes
PATIENT = ("psycopg", "psycopg2", "pymysql", "mysqldb")  # the drivers that call it connect_timeout
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
REMEDIES = (
    ("password", "check user and password (in PGPASSWORD or ~/.pgpass, rather than in the URL)"),
    ("does not exist", "create it, or mend the URL"),
    ("permission denied", "grant this user the right to create tables there"),
    ("too many", "close other connections"),
)


def is_server(url: str | None) -> bool:
    """Return whether a storage URL names a database server, which several machines can reach."""
    return url is not None and not url.startswith("sqlite")


def demand_url(url: str) -> None:
    """Refuse a storage URL that cannot be read, without repeating it."""
    import sqlalchemy

    try:
        asked = sqlalchemy.make_url(url)
        asked.get_dialect()
    except ImportError as error:  # where the dialect is there and its driver is not
        raise _without_driver(error) from error
    except sqlalchemy.exc.NoSuchModuleError as error:
        kind = asked.drivername
        raise NasxError(
            f"--storage names an unknown kind of database, {kind}; write {EXAMPLE}"
        ) from error
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise NasxError(f"--storage is not a database URL; write {EXAMPLE}") from error


def connection_options(url: str) -> dict[str, Any]:
    """Return how to connect to a server: soon, and again where a connection has gone stale."""
    import sqlalchemy

    asked = sqlalchemy.make_url(url)
    driver = asked.get_dialect().driver
    timed = driver in PATIENT and "connect_timeout" not in asked.query
    limit = {"connect_args": {"connect_timeout": PATIENCE}} if timed else {}
    return {"pool_pre_ping": True, **limit}


def refusal(error: Exception, url: str | None) -> NasxError:
    """Return the one line for a record that cannot be opened or reached."""
    reason = _reason(error)
    if url is None:
        return NasxError(
            f"the record cannot be opened: {reason}; restore record.sqlite3 from a copy"
        )
    if isinstance(error, ImportError):
        return _without_driver(error)
    remedy = next(
        (r for word, r in REMEDIES if word in reason), "check the URL, and that the server runs"
    )
    return NasxError(f"the record at {_place(url)} cannot be reached: {reason}; {remedy}")


def _reason(error: Exception) -> str:
    """Return the first line of what the database said, free of its wrappers' names."""
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return said.splitlines()[0].rstrip(".;")


def _place(url: str) -> str:
    import sqlalchemy

    asked = sqlalchemy.make_url(url)
    host = f"{asked.host}:{asked.port}" if asked.port else asked.host
    return f"{host}/{asked.database}" if host else str(asked.database)


def shown(url: str) -> str:
    """Return a URL as it may be shown: passwords are replaced, anything else stays as it is."""
    url = re.sub(r"(://[^:/?#]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&][^=&]*pass[^=&]*)=[^&]*", r"\1=***", url)


def _without_driver(error: ImportError) -> NasxError:
    cause = error if error.name else error.__cause__
    name = getattr(cause, "name", None) or "a driver"
    package = PACKAGES.get(name, name)
    return NasxError(f"--storage needs the package {name}: pip install '{package}'")
