"""asyncpg, with types: it has none of its own. Nothing else here imports it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import asyncpg  # type: ignore[import-untyped]

Row = Sequence[Any]
Init = Callable[["Connection"], Awaitable[None]]


class Connection(Protocol):
    """A connection, lent by a pool."""

    async def execute(self, sql: str, *values: Any) -> str:
        """Runs a statement (without values: also several); the command's tag."""

    async def executemany(self, sql: str, values: Iterable[Sequence[Any]]) -> None: ...

    async def fetch(self, sql: str, *values: Any) -> list[Row]: ...

    async def fetchrow(self, sql: str, *values: Any) -> Row | None: ...

    def terminate(self) -> None:
        """Cuts it off at once; what it had begun is rolled back, unless it was a commit."""

    async def close(self, *, timeout: float) -> None: ...


class Pool(Protocol):
    """Connections to one server."""

    async def acquire(self, *, timeout: float) -> Connection: ...

    async def release(self, connection: Connection, *, timeout: float) -> None: ...

    async def expire_connections(self) -> None:
        """Makes that no connection of now is lent again."""

    async def close(self) -> None: ...

    def terminate(self) -> None: ...


# What a call of the driver raises when it has not done what was asked.
ServerError: type[Exception] = asyncpg.PostgresError
FAILURES: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
# What it raises for a URL that cannot be used.
BAD_URL: tuple[type[Exception], ...] = (asyncpg.ClientConfigurationError, ValueError)


def sqlstate(error: Exception) -> str:
    """PostgreSQL's code of an error; "": the error is not the server's."""
    return str(getattr(error, "sqlstate", None) or "")


async def connect(
    url: str, *, timeout: float, settings: Mapping[str, str], attributes: str
) -> Connection:
    """One connection, outside of a pool; arguments as of `open_pool`."""
    connection = await asyncpg.connect(
        url, timeout=timeout, server_settings=dict(settings), target_session_attrs=attributes
    )
    return cast(Connection, connection)


async def open_pool(
    url: str,
    *,
    size: int,
    timeout: float,
    settings: Mapping[str, str],
    attributes: str,
    init: Init,
) -> Pool:
    """A pool that connects when it has to.

    Args:
        timeout: Seconds that connecting may take.
        attributes: `target_session_attrs` of libpq: which of the URL's hosts will do.
        init: Called with every new connection.
    """
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=timeout,
        server_settings=dict(settings),
        target_session_attrs=attributes,
        init=init,
        reset=_nothing,
    )
    return cast(Pool, await pool)


async def _nothing(connection: Connection) -> None:
    # The pool would ask the server to forget the session's state: we never make any.
    pass
