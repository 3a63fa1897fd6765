"""Opens what the nodes of a mesh share, as the settings name it, and waits for what is away."""
# The drivers are an extra of the package: whoever has no mesh needs none of them.
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TypeVar

from chinwag_server import __version__, engines
from chinwag_server.chat.store import StoreError, StoreRefused
from chinwag_server.clock import Clock
from chinwag_server.config import Settings
from chinwag_server.mesh.agreed import Agreed
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.coordination import CoordinationRefused, CoordinationUnavailable
from chinwag_server.mesh.links import Answers, Links
from chinwag_server.mesh.membership import PREFIX
from chinwag_server.mesh.rates import SharedRates
from chinwag_server.mesh.unavailable import Refused, Unavailable
from chinwag_server.meshed import Shared

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")


class EngineRefused(Exception):
    """An engine is there and will not have this node; waiting does not help."""


async def until_there(name: str, work: Callable[[], Awaitable[_Found]]) -> _Found:
    """Does something with an engine, again and again until the engine is there.

    Raises:
        EngineRefused: It is there, and refuses.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await work()
        except (StoreRefused, CoordinationRefused, Refused) as error:
            raise EngineRefused(str(error)) from error
        except (StoreError, CoordinationUnavailable, Unavailable, OSError) as error:
            log.warning("%s is not there, waiting for it: %s", name, error)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # jitter is no secret
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)


@contextmanager
def _driver_hushed() -> Iterator[None]:
    """Without Cassandra's driver in the log, which tells of each node that it cannot reach with a
    trace: the error that comes of it says all."""
    driver = logging.getLogger("cassandra")
    level = driver.level
    driver.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        driver.setLevel(level)


class MeshEngines:
    """Connections to etcd, Redis and Cassandra, and the place of the links."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = AsyncExitStack()

    async def open(self) -> tuple[Shared, Bus, SharedRates]:
        """Connects to all of them, and waits for those that are away.

        Raises:
            ConfigError: A setting is wrong.
            EngineRefused: An engine will not have this node.
        """
        from chinwag_server.chat.cassandra.tables import CassandraTables
        from chinwag_server.chat.sequenced import schema
        from chinwag_server.mesh.etcd import EtcdCoordination
        from chinwag_server.mesh.grpc_links import GrpcLinks, LinkOptions
        from chinwag_server.mesh.redis import (
            RedisBus,
            RedisInbox,
            RedisLink,
            RedisRates,
            RedisSessions,
        )

        settings, stack = self._settings, self._stack
        cluster_id, mesh = settings.stores.cluster_id, settings.mesh
        redis_url, chat_url = engines.redis_url(settings), engines.chat_url(settings)

        coordination = EtcdCoordination(engines.etcd_client(settings, self._clock))
        stack.push_async_callback(coordination.close)
        agreed = Agreed(coordination, self._clock, secrets.token_bytes, prefix=PREFIX)
        inbox_generation = await until_there("etcd", agreed.inbox_generation)

        link = RedisLink(redis_url)
        stack.push_async_callback(link.close)
        await until_there("Redis", link.open)
        bus = RedisBus(redis_url)
        stack.push_async_callback(bus.close)
        await until_there("Redis", bus.open)

        async def open_tables() -> CassandraTables:
            tables = CassandraTables(chat_url, schema.ALL, cluster_id=cluster_id)
            with _driver_hushed():
                await tables.open()
            return tables

        tables = await until_there("Cassandra", open_tables)
        stack.push_async_callback(tables.close)

        def links(node_id: str, answers: Answers) -> Links:
            options = LinkOptions(
                host=mesh.host,
                port=mesh.port,
                tls_cert_file=mesh.tls_cert_file,
                tls_key_file=mesh.tls_key_file,
                tls_ca_file=mesh.tls_ca_file,
                tls_name=mesh.tls_name,
            )
            return GrpcLinks(node_id, cluster_id, answers, options, version=__version__)

        inbox = RedisInbox(link, agreed.raise_inbox_generation, generation=inbox_generation)
        shared = Shared(coordination, tables, bus, RedisSessions(link), inbox, agreed, links)
        return shared, bus, RedisRates(link, self._clock)

    async def close(self) -> None:
        """Ends all connections."""
        await self._stack.aclose()
