"""A person's device: the SDK's client, and a record of what its application sees and sends."""

from __future__ import annotations

import asyncio
import time

import chinwag
from chinwag import events as ev
from chinwag.account.v1 import user_pb2
from tests.faults.history import Entry, Gap, History, Opened, Reset, Seen, Sent


class Device:
    """Opened once; connections break and come back below it.

    Attributes:
        seen: What its application saw.
        head: By channel the last entry that it saw.
        error: Why its client ended for good.
    """

    def __init__(self, history: History, user_id: str, name: str) -> None:
        self.user_id = user_id
        self.name = name
        self.seen = Seen(user_id, name)
        self.head: dict[str, int] = {}
        self.error: Exception | None = None
        self._history = history
        self._client: chinwag.Client | None = None
        self._live = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        history.seen.append(self.seen)

    @property
    def client(self) -> chinwag.Client:
        assert self._client is not None, "the device is not open"
        return self._client

    @property
    def is_live(self) -> bool:
        return self._live.is_set()

    async def open(self, targets: str, tokens: user_pb2.Tokens) -> None:
        """Connects; returns when the device is caught up."""
        session = chinwag.Session.of(tokens, address=targets)
        self._client = chinwag.connect(targets, session, wait_s=None, drain_s=0.0)
        self._task = asyncio.ensure_future(self._run())
        await self._live.wait()

    async def close(self) -> None:
        """Ends the client."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- what its application does ---

    def send(self, channel_id: str, text: str) -> Sent:
        """Gives a message to the client."""
        handle = self.client.channel(channel_id).post(text)
        key = handle.client_message_id
        sent = Sent((self.user_id, self.name), channel_id, key, text, time.monotonic())
        self._history.sends[self.user_id, key] = sent

        def resolved(future: asyncio.Future[chinwag.Sent]) -> None:
            sent.done_at = time.monotonic()
            error = None if future.cancelled() else future.exception()
            if future.cancelled() or error is not None:
                sent.refused = getattr(error, "reason", "") or repr(error)
            else:
                sent.message_id = future.result().message_id
                self._history.acks.append(sent.done_at)

        handle.future.add_done_callback(resolved)
        return sent

    def mark_read(self, channel_id: str, entry_id: int) -> None:
        """The user has read up to an entry."""
        marks = self.seen.read_ids
        marks[channel_id] = max(entry_id, marks.get(channel_id, 0))
        self.client.channel(channel_id).mark_read(entry_id)

    # --- what it sees ---

    async def _run(self) -> None:
        try:
            async with self.client as client:
                async for event in client.events():
                    self._take(event)
        except chinwag.ChinwagError as error:
            self.error = error
            self._live.set()

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.ConnectionChanged):
            if event.connection is ev.Connection.LIVE:
                self._live.set()
            elif self._live.is_set():
                self._live.clear()
                self.seen.closes.append(time.monotonic())
            return
        if not isinstance(event, ev.ChannelEvent):
            return
        channel_id = event.channel_id
        items = self.seen.items.setdefault(channel_id, [])
        match event:
            case ev.EntryEvent():
                items.append(Entry(event.cursor.id, event.entry.SerializeToString()))
                self.head[channel_id] = event.cursor.id
                self._delivered(event)
            case ev.ChannelOpened():
                items.append(Opened(event.cursor.id))
                self.head[channel_id] = event.cursor.id
            case ev.GapSeen():
                items.append(Gap(event.from_id, event.to_id))
                self.head[channel_id] = event.to_id
            case ev.ChannelReset():
                at = event.cursor.id if event.cursor is not None else 0
                items.append(Reset(event.reason, at))
                self.head[channel_id] = at

    def _delivered(self, event: ev.EntryEvent) -> None:
        now = time.monotonic()
        self._history.deliveries.append(now)
        if isinstance(event, ev.MessageReceived):
            key = (event.actor_id, event.client_message_id)
            sent = self._history.sends.get(key)
            if sent is not None:
                self._history.delays[key] = now - sent.sent_at
                given = event.entry.create_time
                given_at = given.seconds + given.nanos / 1e9 - self._history.wall_s
                self._history.lags[key] = now - given_at
