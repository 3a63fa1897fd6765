"""Real clients: each device has its own SDK client and records what its application sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import chinwag
from chinwag import events as ev
from chinwag.account.v1 import user_pb2
from chinwag.chat.v1 import entry_pb2
from chinwag_server.cli.replay.verify import Difference, Record, Seen

# Called for each message that a device's application sees: (sender, client_message_id, when).
OnMessage = Callable[[str, str, float], None]


def seen_of(entry: entry_pb2.Entry) -> Seen:
    """An entry as `verify` compares it."""
    kind = entry.WhichOneof("kind") or ""
    text = entry.message_sent.content.text if kind == "message_sent" else None
    return Seen(
        entry.id,
        kind,
        entry.actor_id,
        entry.message_sent.client_message_id,
        text,
        entry.member_removed.user_id,
    )


class Device:
    """A person's device.

    Attributes:
        records: What its application saw, by channel.
        client: Its SDK client, after `open`.
        failure: Why it ended before it was closed.
    """

    def __init__(self, user_id: str, name: str, on_message: OnMessage) -> None:
        self.user_id = user_id
        self.name = name
        self.records: dict[str, Record] = {}
        self.failure: Exception | None = None
        self._on_message = on_message
        self._client: chinwag.Client | None = None
        self._live = asyncio.Event()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def client(self) -> chinwag.Client:
        assert self._client is not None, "the device is not open"
        return self._client

    async def open(self, target: str, tokens: user_pb2.Tokens) -> None:
        """Connects; returns when the device is caught up."""
        session = chinwag.Session.of(tokens, address=target)
        self._client = chinwag.connect(target, session, wait_s=None, drain_s=0.0)
        self._task = asyncio.ensure_future(self._run())
        waiting = asyncio.ensure_future(self._live.wait())
        # A client that fails ends its task: then there is nothing to wait for.
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not self._live.is_set():
            waiting.cancel()
            await self._task

    async def _run(self) -> None:
        try:
            async with self.client as client:
                async for event in client.events():
                    self._take(event)
        except Exception as error:
            self.failure = error
            raise

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.EntryEvent):
            entry = event.entry
            record = self.records.get(entry.channel_id)
            if record is None:
                raise Difference(
                    f"{self.user_id}'s {self.name}: entry {entry.id} of {entry.channel_id} came, "
                    "and the channel was not opened"
                )
            record.seen.append(seen_of(entry))
            if entry.HasField("message_sent"):
                self._on_message(
                    entry.actor_id, entry.message_sent.client_message_id, time.monotonic()
                )
            self._moved.set()
        elif isinstance(event, ev.ChannelOpened):
            self._open(event.channel_id, event.cursor.id)
        elif isinstance(event, ev.ChannelReset) and event.cursor is not None:
            # It opens a channel if the news of that was lost. One that is there goes on: no log of
            # a replay begins anew, and none is so long that a device would leave something out.
            if event.channel_id in self.records:
                raise Difference(
                    f"{self.user_id}'s {self.name}: {event.channel_id} was reset: {event.reason}"
                )
            self._open(event.channel_id, event.cursor.id)
        elif isinstance(event, ev.ConnectionChanged) and event.connection is ev.Connection.LIVE:
            self._live.set()

    def _open(self, channel_id: str, start_id: int) -> None:
        self.records[channel_id] = Record(self.user_id, self.name, start_id, [])

    def position(self, channel_id: str) -> int:
        """The newest entry that its application saw of a channel."""
        record = self.records.get(channel_id)
        return record.seen[-1].id if record is not None and record.seen else 0

    async def wait_for(self, channel_id: str, entry_id: int, timeout_s: float) -> bool:
        """Whether its application sees an entry in time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while self.position(channel_id) < entry_id:
            self._moved.clear()
            left = until - loop.time()
            if left <= 0 or (self._task is not None and self._task.done()):
                return False
            try:
                await asyncio.wait_for(self._moved.wait(), left)
            except TimeoutError:
                return False
        return True

    async def close(self) -> None:
        """Ends the client."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
