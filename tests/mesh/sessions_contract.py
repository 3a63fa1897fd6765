"""What all sessions guarantee. A module with fixtures `sessions`, `brief_sessions`, in which
a node lives for `LIFE_S`, `pass_time` and `wipe` inherits the class."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from chinwag_server.mesh.sessions import Sessions

LIFE_S = 0.8
PassTime = Callable[[float], Awaitable[None]]
Wipe = Callable[[], Awaitable[None]]


class SessionsContract:
    async def test_devices_are_found_by_user(self, sessions: Sessions) -> None:
        for node in ("n1", "n2"):
            await sessions.refresh(node)
        await sessions.add("ann", "phone", "n1")
        await sessions.add("ann", "laptop", "n2")
        await sessions.add("ann", "tablet", "n2")
        await sessions.add("bob", "phone", "n1")
        found = await sessions.nodes_of(["ann", "bob", "nobody"])
        assert found == {"ann": {"n1", "n2"}, "bob": {"n1"}}
        assert await sessions.nodes_of([]) == {}

    async def test_a_node_is_left_with_its_last_device(self, sessions: Sessions) -> None:
        await sessions.refresh("n1")
        await sessions.add("ann", "phone", "n1")
        await sessions.add("ann", "phone", "n1")
        await sessions.add("ann", "laptop", "n1")
        await sessions.remove("ann", "phone", "n1")
        assert await sessions.nodes_of(["ann"]) == {"ann": {"n1"}}
        await sessions.remove("ann", "laptop", "n1")
        assert await sessions.nodes_of(["ann"]) == {}
        await sessions.remove("ann", "laptop", "n1")

    async def test_a_late_removal_harms_not_the_device_elsewhere(self, sessions: Sessions) -> None:
        for node in ("n1", "n2"):
            await sessions.refresh(node)
        await sessions.add("ann", "phone", "n1")
        await sessions.add("ann", "phone", "n2")
        assert await sessions.nodes_of(["ann"]) == {"ann": {"n1", "n2"}}
        await sessions.remove("ann", "phone", "n1")
        assert await sessions.nodes_of(["ann"]) == {"ann": {"n2"}}

    async def test_ids_may_hold_anything_but_nul(self, sessions: Sessions) -> None:
        await sessions.refresh("n:1 ü")
        for user, device in (("u:1", "d\n1"), ("u", "1:d"), ("ü €", "")):
            await sessions.add(user, device, "n:1 ü")
        users = ["u:1", "u", "ü €"]
        assert await sessions.nodes_of(users) == {user: {"n:1 ü"} for user in users}
        await sessions.remove("u", "1:d", "n:1 ü")
        assert set(await sessions.nodes_of(users)) == {"u:1", "ü €"}

    async def test_a_node_that_does_not_refresh_is_dead(
        self, brief_sessions: Sessions, pass_time: PassTime
    ) -> None:
        sessions = brief_sessions
        assert not await sessions.refresh("n1")
        assert await sessions.refresh("n1")
        await sessions.refresh("n2")
        await sessions.add("ann", "phone", "n1")
        await sessions.add("ann", "phone", "n2")
        for _ in range(3):
            await pass_time(LIFE_S / 2)
            assert await sessions.refresh("n1")
        assert await sessions.nodes_of(["ann"]) == {"ann": {"n1"}}
        await pass_time(LIFE_S * 1.2)
        assert await sessions.nodes_of(["ann"]) == {}
        # What was lost meanwhile, if anything, is not known: it restores.
        assert not await sessions.refresh("n1")
        await sessions.restore("n1", [("ann", "phone")])
        assert await sessions.nodes_of(["ann"]) == {"ann": {"n1"}}

    async def test_who_never_refreshed_does_not_count(self, sessions: Sessions) -> None:
        await sessions.add("ann", "phone", "n1")
        assert await sessions.nodes_of(["ann"]) == {}
        assert not await sessions.refresh("n1")

    async def test_a_life_can_be_ended(self, sessions: Sessions) -> None:
        await sessions.refresh("n1")
        await sessions.add("ann", "phone", "n1")
        await sessions.end("n1")
        assert await sessions.nodes_of(["ann"]) == {}
        await sessions.end("n1")

    async def test_entries_of_dead_nodes_are_swept(self, sessions: Sessions) -> None:
        for node in ("n1", "n2"):
            await sessions.refresh(node)
            await sessions.restore(node, [(f"u{number}", "phone") for number in range(1500)])
        assert await sessions.sweep() == 0
        await sessions.end("n1")
        assert await sessions.sweep() == 1500
        assert await sessions.sweep() == 0
        users = [f"u{number}" for number in range(1500)]
        assert await sessions.nodes_of(users) == {user: {"n2"} for user in users}

    async def test_a_wipe_is_told_and_mended(self, sessions: Sessions, wipe: Wipe) -> None:
        devices = [(f"u{number}", "phone") for number in range(1200)]
        await sessions.refresh("n1")
        await sessions.restore("n1", devices)
        await wipe()
        assert await sessions.nodes_of(["u1"]) == {}
        assert not await sessions.refresh("n1")
        await sessions.restore("n1", iter(devices))
        assert await sessions.refresh("n1")
        assert len(await sessions.nodes_of([user for user, _ in devices])) == 1200

    async def test_many_at_once(self, sessions: Sessions) -> None:
        await sessions.refresh("n1")
        users = [f"u{number}" for number in range(2000)]
        await asyncio.gather(*(sessions.add(user, "phone", "n1") for user in users))
        assert len(await sessions.nodes_of(users)) == 2000
        # The last call wins, though they share a batch.
        await asyncio.gather(
            sessions.remove("u1", "phone", "n1"),
            sessions.add("u1", "phone", "n1"),
            sessions.add("u2", "phone", "n1"),
            sessions.remove("u2", "phone", "n1"),
        )
        assert await sessions.nodes_of(["u1", "u2"]) == {"u1": {"n1"}}
