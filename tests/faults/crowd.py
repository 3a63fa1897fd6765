"""People under load: all send, read and edit, some come and go, whatever happens to the mesh."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import chinwag
from chinwag.chat.v1 import channel_pb2
from chinwag.chat.v1 import chat_service_pb2 as chat_pb
from chinwag_server.cli.replay.admin import Admin
from tests.faults.device import Device
from tests.faults.history import Edited, Entry, History

DEVICES = 2
MAX_UNSENT = 100
EDIT_SHARE, MARK_SHARE = 0.05, 0.15
COME_AND_GO_S = 1.2


@dataclass(slots=True)
class Room:
    """A channel, and who is to talk in it.

    Attributes:
        owner: A member who stays.
        moving: Members who come and go.
    """

    channel_id: str
    owner: str
    members: Sequence[str]
    moving: Sequence[str] = ()


class Crowd:
    """Some people with two devices each.

    Args:
        people: How many.
        rate: Messages a second of each.
        number: Of this crowd: others have other people.

    Attributes:
        failures: Of calls: why each failed.
    """

    def __init__(
        self, admin: Admin, targets: Sequence[str], *, people: int, rate: float, number: int
    ) -> None:
        self.history = History()
        self.rooms: list[Room] = []
        self.users = [f"u{number}-{person:02}" for person in range(people)]
        self.devices = [
            Device(self.history, user_id, f"d{device}")
            for user_id in self.users
            for device in range(DEVICES)
        ]
        self.failures: list[str] = []
        self._admin = admin
        self._targets = ",".join(targets)
        self._rate = rate
        self._random = random.Random(number)
        self._numbers = itertools.count(1)
        self._inside: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: set[asyncio.Task[None]] = set()

    def of(self, user_id: str) -> list[Device]:
        """A person's devices."""
        return [device for device in self.devices if device.user_id == user_id]

    # --- the stage ---

    async def gather(self) -> None:
        """Makes people, devices and channels: pairs, small groups, one of all, and one in which
        some come and go."""
        await self._admin.make_users([(user_id, user_id) for user_id in self.users])
        at_once = asyncio.Semaphore(8)

        async def open_device(device: Device) -> None:
            async with at_once:
                tokens = await self._admin.issue_token(device.user_id, device.name)
                await device.open(self._targets, tokens)

        await asyncio.gather(*(open_device(device) for device in self.devices))
        users = self.users
        pairs = [(users[at], users[at + 1]) for at in range(0, len(users) - 1, 2)]
        groups = [users[at : at + 4] for at in range(0, len(users) - 3, 3)]
        moving = users[1:4]
        self._inside = set(moving)
        await asyncio.gather(
            *(self._make_direct(*pair) for pair in pairs),
            *(self._make_group(group) for group in groups),
            self._make_group(users),
            self._make_group(users[: len(users) // 2], moving=moving),
        )

    async def _make_group(self, members: Sequence[str], moving: Sequence[str] = ()) -> None:
        owner = members[0]
        channel_id = await self._admin.make_group(owner, "a group", members[1:])
        self.rooms.append(Room(channel_id, owner, members, moving))

    async def _make_direct(self, one: str, other: str) -> None:
        request = chat_pb.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_DIRECT, member_user_ids=[other]
        )
        made = await self._admin.call(self._admin.chat.CreateChannel, request, one)
        self.rooms.append(Room(made.channel.channel.id, one, (one, other)))

    async def close(self) -> None:
        """Ends all devices."""
        await self.stop()
        await asyncio.gather(*(device.close() for device in self.devices))

    # --- the load ---

    def start(self) -> None:
        """Begins to talk."""
        work: list[Coroutine[Any, Any, None]] = [self._talk(user_id) for user_id in self.users]
        work += [self._come_and_go(room) for room in self.rooms if room.moving]
        self._tasks = [asyncio.ensure_future(one) for one in work]

    async def stop(self) -> None:
        """Ends to talk, when the calls that run have ended."""
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._calls:
            await asyncio.wait(self._calls)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _talk(self, user_id: str) -> None:
        devices = self.of(user_id)
        rooms = [room for room in self.rooms if user_id in room.members]
        while True:
            await asyncio.sleep(self._random.expovariate(self._rate))
            device, room = self._random.choice(devices), self._random.choice(rooms)
            if device.error is None and device.client.unsent < MAX_UNSENT:
                device.send(room.channel_id, f"{next(self._numbers)} of {user_id}")
            if self._random.random() < MARK_SHARE and user_id not in room.moving:
                self._mark(self._random.choice(devices), room)
            if self._random.random() < EDIT_SHARE:
                self._edit(user_id)

    @staticmethod
    def _mark(device: Device, room: Room) -> None:
        items = device.seen.items.get(room.channel_id)
        if items and isinstance(items[-1], Entry):
            device.mark_read(room.channel_id, items[-1].id)

    def _edit(self, user_id: str) -> None:
        may_be_out = {room.channel_id for room in self.rooms if user_id in room.moving}
        own = [
            sent
            for sent in list(self.history.sends.values())[-100:]
            if sent.device[0] == user_id and sent.message_id and sent.channel_id not in may_be_out
        ]
        if not own:
            return
        sent = self._random.choice(own)
        text = f"{next(self._numbers)} edited by {user_id}"
        edited = Edited(user_id, sent.channel_id, sent.message_id, text)
        self.history.edits.append(edited)

        async def edit() -> None:
            client = self._random.choice(self.of(user_id)).client
            await client.channel(edited.channel_id).edit(edited.message_id, text)
            edited.is_acked = True

        self._call("edit", edit())

    async def _come_and_go(self, room: Room) -> None:
        channel = self.of(room.owner)[0].client.channel(room.channel_id)
        while True:
            await asyncio.sleep(self._random.expovariate(1 / COME_AND_GO_S))
            user_id = self._random.choice(room.moving)
            if user_id in self._inside:
                call = self._call("remove", channel.remove_member(user_id))
                self._inside.discard(user_id)
            else:
                call = self._call("add", channel.add_members([user_id]))
                self._inside.add(user_id)
            # One that failed may have been done: the next one may find nothing to do, and fails.
            await asyncio.wait([call])

    def _call(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await work
            except chinwag.ChinwagError as error:
                self.failures.append(f"{name}: {error}")

        task = asyncio.ensure_future(run())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task
