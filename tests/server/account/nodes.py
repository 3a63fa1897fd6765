"""Account rooms of several nodes over one store, with a bus between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag_server.account.audit import AuditSettings
from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.sharing import Sharing
from chinwag_server.account.store import AccountStore
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.memory_bus import Hub, MemoryBus
from chinwag_server.mesh.redis import RedisBus
from chinwag_server.rpc.errors import Refusal
from tests.server.account.postgres_server import QUICK
from tests.server.account.rules import Person, Rules

# What is known is known by news alone.
NEVER = AuditSettings(every_s=3600.0)

StartNode = Callable[..., Awaitable[Rules]]
MakeStore = Callable[[], AccountStore]
MakeBus = Callable[[], Bus]


@asynccontextmanager
async def nodes(
    tmp_path: Path, make_store: MakeStore, make_bus: MakeBus | None
) -> AsyncIterator[StartNode]:
    """Starts nodes with an `AuditSettings` and settings as `start_node` takes them."""
    async with AsyncExitStack() as stack:
        count = 0

        async def start(audit: AuditSettings = NEVER, **changes: Any) -> Rules:
            nonlocal count
            count += 1
            bus = make_bus() if make_bus else None
            if bus is not None:
                await bus.open()
                stack.push_async_callback(bus.close)
            rules = Rules(
                tmp_path,
                make_store(),
                share=lambda clock: Sharing(clock, bus, audit),
                seed=count,
                **changes,
            )
            await rules.start()
            stack.push_async_callback(rules.room.stop)
            return rules

        yield start


def in_memory(tmp_path: Path, hub: Hub | None) -> Any:
    """Nodes over a store in memory; a hub of None: without a bus."""
    store = MemoryAccountStore()
    return nodes(tmp_path, lambda: store, (lambda: MemoryBus(hub)) if hub else None)


def for_real(tmp_path: Path, postgres_url: str, redis_url: str) -> Any:
    """Nodes over PostgreSQL and Redis."""
    return nodes(
        tmp_path,
        lambda: PostgresAccountStore(postgres_url, settings=QUICK),
        lambda: RedisBus(redis_url),
    )


def at(node: Rules, person: Person) -> Person:
    """The same device, calling another node."""
    return Person(node, person.tokens)


async def standing(call: Callable[[], Awaitable[Any]]) -> str:
    """The reason with which a call is refused; "": it is answered."""
    try:
        await call()
    except Refusal as refusal:
        return refusal.reason
    return ""


async def get_me(person: Person) -> str:
    """`standing` of a call of a device."""
    return await standing(lambda: person.call("GetMe"))


async def comes_to(
    found: Callable[[], Awaitable[Any]], expected: Any, *, within_s: float = 3.0
) -> float:
    """Waits until something is as expected; the seconds that it took."""
    began = time.monotonic()
    while (last := await found()) != expected:
        took_s = time.monotonic() - began
        assert took_s < within_s, f"{last!r} after {took_s:.1f} s, expected {expected!r}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def other_device(person: Person, username: str) -> Person:
    """One more device of a user."""
    return await person.rules.log_in(username)


def revoke(person: Person) -> pb.RevokeDeviceRequest:
    """Ends a device's session."""
    return pb.RevokeDeviceRequest(device_id=person.tokens.device_id)
