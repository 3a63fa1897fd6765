"""A node dies with hundreds of devices: all come back in time, without a gap, and those who were
elsewhere hardly notice (`limits.stream_opens_per_second`)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import pytest

from chinwag.account.v1 import user_pb2
from chinwag_server.cli.replay.admin import Admin
from tests.faults.device import Device
from tests.faults.fleet import Fleet, Looked
from tests.faults.history import History
from tests.faults.stage import LEASE_S, SETTINGS, answered
from tools.mesh import Mesh, temporary_folder

GROUPS = 40
LOOKERS = 25  # of each group, with two devices each: 2,000
# Messages a second of each group. Each goes to 52 devices.
RATE = 0.25
OPENS_PER_S = 50
CALM_S = 20.0
# A device is back when its channels have an owner again: after a lease, and a take-over on a
# machine that is busy with all who come.
BACK_S = LEASE_S + 10.0
# How much longer a delivery to the others may take meanwhile.
BUSY_S = 1.0


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_devices_of_a_dead_node_come_back(report: Callable[[str], None]) -> None:
    settings = {
        **SETTINGS,
        "CHINWAG_LIMITS_STREAM_OPENS_PER_SECOND": str(OPENS_PER_S),
        "CHINWAG_LIMITS_STREAM_OPENS_BURST": str(OPENS_PER_S),
    }
    fleet = Fleet()
    with temporary_folder() as folder:
        async with Mesh(folder, settings=settings, small=True) as mesh:
            admin = Admin(",".join(mesh.targets), await mesh.create_api_key())
            storm = Storm(mesh, admin)
            try:
                await storm.gather(fleet)
                await storm.strike(fleet, report)
            finally:
                await fleet.kill()
                await storm.close()
                await admin.close()


class Storm:
    """A group has many who look, and one person who talks, with devices at nodes that live."""

    def __init__(self, mesh: Mesh, admin: Admin) -> None:
        self._mesh = mesh
        self._admin = admin
        self._history = History()
        self._groups: list[str] = []
        self._talkers: list[tuple[Device, Device]] = []
        self._random = random.Random(1)

    async def gather(self, fleet: Fleet) -> None:
        """Makes all of them."""
        talkers = [f"talker{number}" for number in range(GROUPS)]
        lookers = [[f"u{group}-{n:02}" for n in range(LOOKERS)] for group in range(GROUPS)]
        users = [*talkers, *(user_id for group in lookers for user_id in group)]
        await self._admin.make_users([(user_id, user_id) for user_id in users])
        for talker, group in zip(talkers, lookers, strict=True):
            self._groups.append(await self._admin.make_group(talker, "a group", group))
        for talker in talkers:
            pair = (Device(self._history, talker, "d1"), Device(self._history, talker, "d2"))
            self._talkers.append(pair)
            for device, target in zip(pair, self._mesh.targets[1:], strict=True):
                await device.open(target, await self._admin.issue_token(talker, device.name))
        at_once = asyncio.Semaphore(16)

        async def token(user_id: str, device: str) -> user_pb2.Tokens:
            async with at_once:
                return await self._admin.issue_token(user_id, device)

        tokens = await asyncio.gather(
            *(token(user_id, d) for group in lookers for user_id in group for d in ("d1", "d2"))
        )
        await fleet.open(",".join(self._mesh.targets), list(tokens))

    async def close(self) -> None:
        """Ends who talks."""
        await asyncio.gather(*(device.close() for pair in self._talkers for device in pair))

    async def strike(self, fleet: Fleet, report: Callable[[str], None]) -> None:
        """Kills a node and looks."""
        talking = [asyncio.ensure_future(self._talk(group)) for group in range(GROUPS)]
        began = time.monotonic()
        await asyncio.sleep(CALM_S)
        devices = await asyncio.to_thread(self._mesh.nodes[0].metric, "chinwag_streams")
        killed = time.monotonic()
        await self._mesh.kill_node(0)
        bound_s = devices / (2 * OPENS_PER_S) + BACK_S
        await asyncio.sleep(bound_s)
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        heads = await self._heads()
        looked = await self._caught_up(fleet, heads)
        # Who was elsewhere stays there.
        moved = [one for one in looked if one.left]
        away = sorted(back - killed for one in moved for back in one.back)
        calm = self._delays(began, killed)
        storm = self._delays(killed, killed + max(away))
        waits = [s.done_at - s.sent_at for s in self._history.sends.values() if s.sent_at > killed]
        noticed = max(left - killed for one in moved for left in one.left)
        report(
            f"{int(devices)} of {len(looked)} devices lost their node, and knew after "
            f"{noticed:.2f} s: the first was back after "
            f"{away[0]:.2f} s, half after {away[len(away) // 2]:.2f} s, the last after "
            f"{away[-1]:.2f} s at {2 * OPENS_PER_S} a second; {_told(calm)} before, "
            f"{_told(storm)} meanwhile; a send waited {max(waits):.2f} s"
        )
        assert [one.error for one in looked if one.error] == []
        assert [hole for one in looked for hole in one.holes] == []
        assert len(moved) == devices
        assert all(len(one.left) == len(one.back) == 1 for one in moved)
        assert away[-1] < bound_s
        assert _p99(storm) < _p99(calm) + BUSY_S
        assert [s for s in self._history.sends.values() if not s.message_id] == []

    async def _talk(self, group: int) -> None:
        device, _ = self._talkers[group]
        while True:
            await asyncio.sleep(self._random.expovariate(RATE))
            device.send(self._groups[group], "hello")

    async def _heads(self) -> dict[str, int]:
        """When nobody waits for an ack any more."""
        await answered(self._history)
        talkers = (first.user_id for first, _ in self._talkers)
        return {
            group: len(await self._admin.read_log(talker, group))
            for talker, group in zip(talkers, self._groups, strict=True)
        }

    async def _caught_up(self, fleet: Fleet, heads: dict[str, int]) -> list[Looked]:
        """What all saw, who have seen all."""
        await asyncio.sleep(5.0)
        looked = await fleet.end()
        behind = [one.last for one in looked if any(heads[g] != at for g, at in one.last.items())]
        assert behind == []
        assert all(one.last for one in looked)
        return looked

    def _delays(self, since: float, until: float) -> list[float]:
        """From the moment that an owner gave an entry its time to the last device of its sender.
        What was sent before a node died and comes after that is not among them."""
        return sorted(
            lag
            for (user_id, key), lag in self._history.lags.items()
            if since <= self._history.sends[user_id, key].sent_at < until
        )


def _p99(times: Sequence[float]) -> float:
    return times[int(len(times) * 0.99)]


def _told(times: Sequence[float]) -> str:
    return f"{len(times)} deliveries took p50 {times[len(times) // 2]:.3f}, p99 {_p99(times):.3f} s"
