"""Which users' devices are on a node, as the sessions are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from chinwag_server.chat.routed import registered
from chinwag_server.chat.routed.registered import Registered
from chinwag_server.clock import SystemClock
from chinwag_server.mesh.memory_sessions import MemorySessions
from chinwag_server.mesh.unavailable import Unavailable
from tests.server.chat.routed.nodes import until


class Sessions(MemorySessions):
    """Fails to restore a node's devices now and then."""

    fails = 0

    async def restore(self, node_id: str, devices: Iterable[tuple[str, str]]) -> None:
        if self.fails:
            self.fails -= 1
            raise Unavailable("no answer")
        await super().restore(node_id, devices)


async def test_what_could_not_be_restored_is_restored_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The node's life begins anew with the first refresh, and its devices are not there yet."""
    monkeypatch.setattr(registered, "REFRESH_S", 0.01)
    sessions = Sessions(SystemClock())
    is_unknown: list[bool] = []
    lapses: list[None] = []
    node = Registered(
        "node",
        sessions,
        SystemClock(),
        unknown=is_unknown.append,
        lapsed=lambda: lapses.append(None),
    )
    node.start()
    node.came("ann", "ann-1")
    await until(lambda: bool(is_unknown) and not is_unknown[-1])
    sessions.fails = 2
    sessions.wipe()
    await until(lambda: bool(lapses))
    assert await sessions.nodes_of(["ann"]) == {"ann": {"node"}}
    await until(lambda: not is_unknown[-1])
    await asyncio.sleep(0.05)
    assert len(lapses) == 1
    await node.stop()
