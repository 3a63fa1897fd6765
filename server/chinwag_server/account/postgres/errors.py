"""What the server's errors mean for a call."""

from __future__ import annotations

from chinwag_server.account.postgres import driver

# Classes of SQLSTATE: connection, resources, operator intervention, system, corrupted data,
# login; 25006: it has become read-only, 40: rolled back, 42501: no right, 55P03: lock, 3D000: no
# such database, F0: its configuration.
_UNAVAILABLE = ("08", "53", "57", "58", "XX", "28", "25006", "40", "42501", "55P03", "3D000", "F0")

# It may well be over in a moment: connection, too many connections, shutting down or starting,
# read-only after a failover, a deadlock.
_PASSING = ("08", "53300", "57P0", "25006", "40")

_ADVICE = {
    "28": "check the user and the password in the URL, and the server's pg_hba.conf",
    "3D000": "make the database (createdb), or name another one in the URL",
    "42501": "let the user own the database or its schema",
    "53100": "the server's disk is full: make room",
    "53300": "the server has too many connections: raise its max_connections, or lower the "
    "number of connections a node",
    "57P03": "the server is starting or stopping: try again",
    "25006": "the server is a replica: name the primary",
}


class Astray(Exception):
    """A connection led to another store than it should."""


def is_defect(error: Exception) -> bool:
    """Whether the statement is wrong rather than the server: a bug of ours."""
    # The driver's own refusal of a value is a ValueError.
    state = driver.sqlstate(error)
    is_ours = bool(state) and not state.startswith(_UNAVAILABLE)
    return is_ours or isinstance(error, ValueError)


def is_passing(error: Exception) -> bool:
    """Whether it is worth another try at once."""
    state = driver.sqlstate(error)
    return state.startswith(_PASSING) if state else not isinstance(error, TimeoutError | Astray)


def is_read_only(error: Exception) -> bool:
    """Whether the server takes no writes any more: another one is the primary."""
    return driver.sqlstate(error) == "25006"


def is_refusal(error: Exception) -> bool:
    """Whether the server does not let us in: a wrong login, or no right."""
    return driver.sqlstate(error).startswith(("28", "42501"))


def described(error: Exception) -> str:
    """The error in a line, for operators; a timeout has no text of its own."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def outline(error: Exception) -> str:
    """The error in a few words that name no host and no user: callers of the API see them."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, Astray):
        return "a connection led to another store"
    return f"code {state}" if (state := driver.sqlstate(error)) else "no connection"


def advice(error: Exception) -> str:
    """What an operator can do."""
    if isinstance(error, Astray):
        return "see what the URL's host stands for"
    state = driver.sqlstate(error)
    for prefix, text in _ADVICE.items():
        if state.startswith(prefix):
            return text
    return "check that the server runs and that the URL names it"
