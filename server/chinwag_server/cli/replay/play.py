"""Plays transcripts: people join before their first line, say their lines, and leave."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chinwag.errors import ClientClosed
from chinwag_server.cli.replay.admin import Admin
from chinwag_server.cli.replay.devices import Device, seen_of
from chinwag_server.cli.replay.report import Report, percentile
from chinwag_server.cli.replay.transcript import OTHERS, Line, Transcript
from chinwag_server.cli.replay.verify import Difference, Seen, SentLine, verify_channel

HOST = "host"
WINDOW = 200
SETTLE_S = 60.0
ACK_TIMEOUT_S = 120.0
CONNECT_AT_ONCE = 20

# (lines said, lines in all)
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Times:
    """When messages were sent, acked and seen, by (sender, client_message_id)."""

    sent: dict[tuple[str, str], float] = field(default_factory=dict)
    acks: list[float] = field(default_factory=list)
    deliveries: list[float] = field(default_factory=list)

    def seen(self, user_id: str, client_message_id: str, when: float) -> None:
        started = self.sent.get((user_id, client_message_id))
        if started is not None:
            self.deliveries.append(when - started)


@dataclass(slots=True)
class Stage:
    """One transcript's channel while it is played."""

    transcript: Transcript
    channel_id: str
    members: set[str] = field(default_factory=set)
    sent: list[SentLine] = field(default_factory=list)


class Player:
    """Plays transcripts against a server.

    Args:
        devices: Devices a person.
        speed: How many times faster than it was said; 0: as fast as it goes.
        target: Any node, or several with commas; devices spread over them, and go to another one
            when theirs is away.
    """

    def __init__(
        self,
        admin: Admin,
        target: str,
        transcripts: Sequence[Transcript],
        *,
        devices: int,
        speed: float,
        progress: Progress,
    ) -> None:
        self._admin = admin
        self._target = target
        self._transcripts = transcripts
        self._devices_each = devices
        self._speed = speed
        self._progress = progress
        self._said = 0
        self._times = Times()
        self._people: dict[str, list[Device]] = {}
        self._ids: dict[str, str] = {}
        self._prefix = f"replay-{time.time_ns() // 1_000_000:x}"

    async def run(self, report: Report) -> None:
        """Plays, waits until all is seen, and verifies.

        Raises:
            Difference: Something is not as it should be.
            CommandError: The server refused, or could not be reached for too long (`cli.exits`).
        """
        await self._set_the_stage(report)
        started = time.monotonic()
        try:
            stages = await asyncio.gather(*(self._play(t) for t in self._transcripts))
            report.seconds = time.monotonic() - started
            for stage in stages:
                await self._verify(stage)
        finally:
            await asyncio.gather(*(d.close() for ds in self._people.values() for d in ds))
            self._count(report)

    # --- people ---

    async def _set_the_stage(self, report: Report) -> None:
        nicks = sorted({nick for t in self._transcripts for nick in t.nicks})
        names = {HOST: "replay", "": OTHERS, **{nick: nick for nick in nicks}}
        for number, key in enumerate(names):
            self._ids[key] = f"{self._prefix}-{number}"
        users = [(self._ids[key], _display_name(name)) for key, name in names.items()]
        await self._admin.make_users(users)
        room = asyncio.Semaphore(CONNECT_AT_ONCE)
        opening = []
        for user_id in self._ids.values():
            self._people[user_id] = [
                Device(user_id, f"device-{n + 1}", self._times.seen)
                for n in range(self._devices_each)
            ]
            opening += [self._open(room, device) for device in self._people[user_id]]
        await asyncio.gather(*opening)
        report.channels = len(self._transcripts)
        report.people = len(self._people)
        report.devices = sum(len(devices) for devices in self._people.values())

    async def _open(self, room: asyncio.Semaphore, device: Device) -> None:
        async with room:
            tokens = await self._admin.issue_token(device.user_id, device.name)
            await device.open(self._target, tokens)

    # --- playing ---

    async def _play(self, transcript: Transcript) -> Stage:
        host = self._ids[HOST]
        channel_id = await self._admin.make_group(host, transcript.name, [])
        stage = Stage(transcript, channel_id, {host})
        left = Counter(line.nick for line in transcript.lines)
        under_way: deque[asyncio.Future[int]] = deque()
        of_nick: dict[str, list[asyncio.Future[int]]] = {}
        loop = asyncio.get_running_loop()
        started = loop.time()
        for line in transcript.lines:
            if self._speed:
                await asyncio.sleep(started + line.at_s / self._speed - loop.time())
            user_id = self._ids[line.nick]
            if user_id not in stage.members:
                await self._admin.add_member(host, channel_id, user_id)
                stage.members.add(user_id)
            said = asyncio.ensure_future(self._say(stage, user_id, line))
            under_way.append(said)
            of_nick.setdefault(line.nick, []).append(said)
            left[line.nick] -= 1
            while len(under_way) >= WINDOW:
                await under_way.popleft()
            if not left[line.nick] and line.nick:
                # Their last line is stored before they go: who left cannot send. And their devices
                # have seen it: one that is away for all of a stay is not told of the channel.
                stored = await asyncio.gather(*of_nick.pop(line.nick))
                await self._has_seen(stage, user_id, max(stored))
                await self._admin.remove_member(host, channel_id, user_id)
                stage.members.discard(user_id)
        await asyncio.gather(*under_way)
        return stage

    async def _has_seen(self, stage: Stage, user_id: str, entry_id: int) -> None:
        for device in self._people[user_id]:
            if not await device.wait_for(stage.channel_id, entry_id, SETTLE_S):
                raise device.failure or Difference(
                    f"{stage.transcript.name}: {user_id}'s {device.name} did not see entry "
                    f"{entry_id} in {SETTLE_S:.0f} s"
                )

    async def _say(self, stage: Stage, user_id: str, line: Line) -> int:
        """Sends a line; gives its message id."""
        # Up to its first wait a coroutine of `ensure_future` runs in the order of creation, so
        # the lines of a person are handed to their client in order.
        device = self._people[user_id][0]
        started = time.monotonic()
        try:
            handle = device.client.channel(stage.channel_id).post(line.text)
            self._times.sent[user_id, handle.client_message_id] = started
            sent = await asyncio.wait_for(handle, ACK_TIMEOUT_S)
        except ClientClosed as error:
            raise (device.failure or error) from None
        except TimeoutError:
            raise Difference(
                f"{stage.transcript.name}: a send of {user_id} got no answer in "
                f"{ACK_TIMEOUT_S:.0f} s"
            ) from None
        self._times.acks.append(time.monotonic() - started)
        stage.sent.append(SentLine(user_id, handle.client_message_id, line.text, sent.message_id))
        self._said += 1
        self._progress(self._said, sum(len(t.lines) for t in self._transcripts))
        return sent.message_id

    # --- the proof ---

    async def _verify(self, stage: Stage) -> None:
        entries = await self._admin.read_log(self._ids[HOST], stage.channel_id)
        log = [seen_of(entry) for entry in entries]
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for entry in entries:
            for ref in (*entry.channel_created.members, *entry.members_added.members):
                first.setdefault(ref.user_id, entry.id)
            if entry.HasField("member_removed"):
                last[entry.member_removed.user_id] = entry.id
        head = log[-1].id
        devices = [d for user_id in first for d in self._people[user_id]]
        await asyncio.gather(
            *(
                device.wait_for(stage.channel_id, last.get(device.user_id, head), SETTLE_S)
                for device in devices
            )
        )
        stage.sent.sort(key=lambda line: line.message_id)
        self._verify_order(stage, log)
        records = [
            device.records[stage.channel_id]
            for device in devices
            if stage.channel_id in device.records
        ]
        if len(records) != len(devices):
            raise Difference(f"{stage.transcript.name}: a device never saw the channel")
        verify_channel(stage.transcript.name, log, stage.sent, records, first, last)

    def _verify_order(self, stage: Stage, log: Sequence[Seen]) -> None:
        """Each person's lines stand in the log in the order of the file."""
        said: dict[str, list[str]] = {}
        for line in stage.transcript.lines:
            said.setdefault(self._ids[line.nick], []).append(line.text)
        found: dict[str, list[str]] = {}
        for entry in log:
            if entry.text is not None:
                found.setdefault(entry.actor_id, []).append(entry.text)
        for user_id, texts in said.items():
            if found.get(user_id, []) != texts:
                raise Difference(
                    f"{stage.transcript.name}: the lines of {user_id} are not those of the file"
                )

    def _count(self, report: Report) -> None:
        times = self._times
        acks, deliveries = sorted(times.acks), sorted(times.deliveries)
        report.sends = len(acks)
        report.deliveries = len(deliveries)
        report.ack_p50_ms = percentile(acks, 0.5) * 1000
        report.ack_p99_ms = percentile(acks, 0.99) * 1000
        report.delivery_p50_ms = percentile(deliveries, 0.5) * 1000
        report.delivery_p99_ms = percentile(deliveries, 0.99) * 1000


def _display_name(nick: str) -> str:
    name = "".join(c for c in nick if c.isprintable()).strip()
    return name[:64] or "?"
