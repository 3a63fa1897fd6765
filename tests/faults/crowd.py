"""People who talk on a mesh while it is broken, and the proof that nothing was lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from chinwag_server.cli.replay.admin import Admin
from chinwag_server.cli.replay.devices import Device, seen_of
from chinwag_server.cli.replay.verify import SentLine, verify_channel

PEOPLE = 12
DEVICES = 2
# A fault may last for a lease and a restart.
ACK_S = 60.0
SETTLE_S = 60.0
# Each person says something so often.
PAUSE_S = 0.4


@dataclass
class Room:
    """A channel and what was said in it.

    Attributes:
        ever: Who is or was a member.
    """

    name: str
    channel_id: str
    members: list[str]
    ever: set[str]
    sent: list[SentLine] = field(default_factory=list)


@dataclass
class Still:
    """When something went through, of what should have all the time."""

    acks: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        waits = sorted(self.waits)
        p99 = waits[int(len(waits) * 0.99)] if waits else 0.0
        return (
            f"{len(self.acks)} sends, none acked for {_longest(self.acks):.2f} s, none delivered "
            f"for {_longest(self.deliveries):.2f} s, p99 of waiting {p99:.2f} s, longest "
            f"{max(waits, default=0.0):.2f} s"
        )


def _longest(times: Sequence[float]) -> float:
    return max((b - a for a, b in pairwise(times)), default=0.0)


class Crowd:
    """The people, each with devices at any node.

    Args:
        targets: The addresses of all nodes.
        api_key: To make the people with.
    """

    def __init__(self, targets: Sequence[str], api_key: str, seed: int = 1) -> None:
        self._targets = ",".join(targets)
        self._admin = Admin(self._targets, api_key)
        self._rng = random.Random(seed)  # what is said is no secret
        self._devices: dict[str, list[Device]] = {}
        self._rooms: list[Room] = []
        self._still = Still()
        self._said = 0
        self._swaps = 0

    async def gather(self) -> None:
        """Makes people, devices and channels."""
        names = [f"person{number}" for number in range(PEOPLE)]
        await self._admin.make_users([(name, name) for name in names])
        for name in names:
            self._devices[name] = [
                Device(name, f"{name}-{number}", self._on_message) for number in range(DEVICES)
            ]
        await asyncio.gather(*(self._open(each) for name in names for each in self._devices[name]))
        await self._group("all", names)
        for start in range(0, PEOPLE, 4):
            await self._group(f"four{start}", names[start : start + 4])
        for start in range(0, PEOPLE, 2):
            first, second = names[start : start + 2]
            channel = await self._devices[first][0].client.direct(second)
            pair = [first, second]
            self._rooms.append(Room(f"pair{start}", channel.id, pair, set(pair)))

    async def _group(self, name: str, members: list[str]) -> None:
        channel_id = await self._admin.make_group(members[0], name, members[1:])
        self._rooms.append(Room(name, channel_id, members, set(members)))

    async def _open(self, device: Device) -> None:
        tokens = await self._admin.issue_token(device.user_id, device.name)
        await device.open(self._targets, tokens)

    async def leave(self) -> None:
        """Ends all clients."""
        await asyncio.gather(*(each.close() for some in self._devices.values() for each in some))
        await self._admin.close()

    def _on_message(self, _sender: str, _key: str, when: float) -> None:
        self._still.deliveries.append(when)

    # --- talking ---

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[Still]:
        """People talk while the body runs; then it is quiet, and everything is checked.

        Raises:
            Difference: Something is not as it should be.
        """
        self._still = still = Still()
        stop = asyncio.Event()
        talking = [asyncio.ensure_future(self._talk(name, stop)) for name in self._devices]
        try:
            yield still
        finally:
            stop.set()
            await asyncio.gather(*talking)
        await self.check()

    async def _talk(self, user_id: str, stop: asyncio.Event) -> None:
        rooms = [room for room in self._rooms if user_id in room.members]
        under_way: list[asyncio.Future[None]] = []
        while not stop.is_set():
            room = self._rng.choice(rooms)
            self._said += 1
            said = self._say(room, user_id, f"{user_id} says {self._said}")
            under_way.append(asyncio.ensure_future(said))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._rng.uniform(0.5, 1.5) * PAUSE_S)
        await asyncio.gather(*under_way)

    async def _say(self, room: Room, user_id: str, text: str) -> None:
        client = self._devices[user_id][0].client
        began = time.monotonic()
        handle = client.channel(room.channel_id).post(text)
        sent = await asyncio.wait_for(handle, ACK_S)
        now = time.monotonic()
        self._still.acks.append(now)
        self._still.waits.append(now - began)
        room.sent.append(SentLine(user_id, handle.client_message_id, text, sent.message_id))

    async def swap(self) -> None:
        """Somebody leaves a group of four for good, and somebody comes who was never in it."""
        room = self._rooms[1 + self._swaps % 3]
        self._swaps += 1
        host, *others = room.members
        gone = others[-1]
        new = next(name for name in self._devices if name not in room.ever)
        room.ever.add(new)
        await self._admin.remove_member(host, room.channel_id, gone)
        await self._admin.add_member(host, room.channel_id, new)
        room.members = [host, *others[:-1], new]

    # --- the proof ---

    async def check(self) -> None:
        """Compares logs, acks and what each device saw.

        Raises:
            Difference: The first thing that is not as it should be.
        """
        for room in self._rooms:
            await self._check(room)

    async def _check(self, room: Room) -> None:
        entries = await self._admin.read_log(room.members[0], room.channel_id)
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for entry in entries:
            for ref in (*entry.channel_created.members, *entry.members_added.members):
                first.setdefault(ref.user_id, entry.id)
            if entry.HasField("member_removed"):
                last[entry.member_removed.user_id] = entry.id
        head = entries[-1].id
        devices = [each for user_id in first for each in self._devices[user_id]]
        await asyncio.gather(
            *(
                each.wait_for(room.channel_id, last.get(each.user_id, head), SETTLE_S)
                for each in devices
            )
        )
        verify_channel(
            room.name,
            [seen_of(entry) for entry in entries],
            sorted(room.sent, key=lambda line: line.message_id),
            [each.records[room.channel_id] for each in devices],
            first,
            last,
        )
