"""Sessions in memory: for nodes that live in one process, as in tests and simulations."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from chinwag_server.clock import Clock
from chinwag_server.mesh.unavailable import Unavailable


class MemorySessions:
    """All nodes use the same one.

    Args:
        life_s: A node that does not refresh for so long is dead.

    Attributes:
        away: Whether every call fails.
    """

    def __init__(self, clock: Clock, *, life_s: float = 15.0) -> None:
        self.away = False
        self._clock = clock
        self._life_s = life_s
        self._lives: dict[str, float] = {}  # node -> when its life ends
        self._users: dict[str, set[tuple[str, str]]] = {}  # user -> (node, device)

    def wipe(self) -> None:
        """Loses everything."""
        self._lives.clear()
        self._users.clear()

    async def refresh(self, node_id: str) -> bool:
        self._check()
        lived = self._lives_now(node_id)
        self._lives[node_id] = self._clock.monotonic() + self._life_s
        return lived

    async def add(self, user_id: str, device_id: str, node_id: str) -> None:
        self._check()
        self._users.setdefault(user_id, set()).add((node_id, device_id))

    async def remove(self, user_id: str, device_id: str, node_id: str) -> None:
        self._check()
        self._discard(user_id, {(node_id, device_id)})

    async def restore(self, node_id: str, devices: Iterable[tuple[str, str]]) -> None:
        for user_id, device_id in devices:
            await self.add(user_id, device_id, node_id)

    async def nodes_of(self, user_ids: Collection[str]) -> dict[str, set[str]]:
        self._check()
        found = {
            user_id: {node for node, _ in self._users.get(user_id, ()) if self._lives_now(node)}
            for user_id in user_ids
        }
        return {user_id: nodes for user_id, nodes in found.items() if nodes}

    async def end(self, node_id: str) -> None:
        self._check()
        self._lives.pop(node_id, None)

    async def sweep(self) -> int:
        self._check()
        removed = 0
        for user_id, entries in list(self._users.items()):
            dead = {entry for entry in entries if not self._lives_now(entry[0])}
            self._discard(user_id, dead)
            removed += len(dead)
        return removed

    def _lives_now(self, node_id: str) -> bool:
        return self._lives.get(node_id, float("-inf")) > self._clock.monotonic()

    def _discard(self, user_id: str, gone: set[tuple[str, str]]) -> None:
        entries = self._users.get(user_id, set())
        entries -= gone
        if not entries:
            self._users.pop(user_id, None)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the sessions are away")
