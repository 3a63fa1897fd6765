"""Opening a connection to the Redis that is the primary now, and what it must be like."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from chinwag_server.mesh.redis.address import Address, show_host
from chinwag_server.mesh.unavailable import Refused, Unavailable

_REFUSALS = (AuthenticationError, NoPermissionError, Refused)
OLDEST = (7, 0)  # sharded pub/sub, and scripts that say what they may do


async def connect(address: Address, timeout_s: float) -> Connection:
    """A connection that is logged in.

    Args:
        timeout_s: For all of it, over all hosts.

    Raises:
        Refused: One of the hosts will not have us, or is set up as it must not be.
        Unavailable: None of the hosts is a primary that can be used.
    """
    reasons, kind = [], Unavailable
    each_s = timeout_s / len(address.hosts)
    for host, port in address.hosts:
        connection = _connection(address, host, port, timeout_s)
        try:
            async with asyncio.timeout(each_s):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("INFO", "server", "memory", "replication")
                found = await read(connection)
            _check(_fields(found))
        except BaseException as error:
            await drop(connection)
            if not isinstance(error, (RedisError, OSError, Unavailable)):
                raise
            reasons.append(f"{show_host(host, port)} {explain(error, each_s)}")
            if isinstance(error, _REFUSALS):
                kind = Refused
        else:
            return connection
    raise kind(f"Redis cannot be used: {'; '.join(reasons)}")


async def read(connection: Connection) -> Any:
    """The next reply, however long it takes.

    Raises:
        RedisError: It is an error, or the connection broke.
    """
    # redis-py closes the connection itself unless told not to, also at a cancellation.
    return await connection.read_response(
        disable_decoding=True, timeout=math.inf, disconnect_on_error=False
    )


async def drop(connection: Connection) -> None:
    """Ends a connection at once.

    redis-py's own way goes on until all that is unsent is sent, which a frozen Redis never takes.
    """
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
    await connection.disconnect(nowait=True)


def explain(error: BaseException, timeout_s: float) -> str:
    """What went wrong and what to do, as the end of a sentence that begins with a host."""
    match error:
        case Unavailable():
            return str(error)
        case TimeoutError():
            return f"did not answer within {timeout_s:g} s"
        case OutOfMemoryError():
            return "is full: raise its maxmemory"
        case ReadOnlyError():
            return "is a replica now: name the primary too in the URL"
        case NoPermissionError():
            return f"forbids us a command ({error}): allow it to the URL's user"
        case AuthenticationError():
            return f"refuses our login ({error}): check the URL's user and password"
        case _:
            return f"failed: {error}"


def _connection(address: Address, host: str, port: int, timeout_s: float) -> Connection:
    settings: dict[str, Any] = {
        "host": host,
        "port": port,
        "db": address.db,
        "username": address.user or None,
        "password": address.password or None,
        "protocol": 2,
        # Deadlines are kept by who calls: here they would cost a task at each write.
        "socket_timeout": None,
        "socket_connect_timeout": timeout_s,
        "driver_info": None,
    }
    if not address.tls:
        return Connection(**settings)
    return SSLConnection(ssl_ca_certs=address.ca or None, **settings)


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode().splitlines())
    return {name: value for name, _, value in lines}


def _check(info: dict[str, str]) -> None:
    version = info["redis_version"]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise Refused(f"is Redis {version}: 7.0 or newer is needed")
    if info["role"] != "master":
        raise Unavailable("is a replica: name the primary too in the URL")
    # What is evicted is lost without a trace, and would be answered as "nothing there".
    if info["maxmemory"] != "0" and info["maxmemory_policy"] != "noeviction":
        raise Refused(
            f"evicts ({info['maxmemory_policy']}): set its maxmemory-policy to noeviction"
        )
