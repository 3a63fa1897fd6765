"""Who is connected, and passing on to them what was committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag_server.chat import frames
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.entries import parse
from chinwag_server.chat.store import AppendEntry, EntryKind, MemberRecord

RECEIPT_FLUSH_S = 0.05

_MEMBER_KINDS = frozenset(
    {EntryKind.CHANNEL_CREATED, EntryKind.MEMBERS_ADDED, EntryKind.MEMBER_REMOVED}
)


class Listener(Protocol):
    """Something of a user's that wants to know: a device's stream, or a waiting Sync."""

    @property
    def device_id(self) -> str: ...

    def offer(self, channel_id: str, entry_id: int, piece: bytes) -> None:
        """The next committed entry of a channel, as a piece with one event."""

    def offer_opened(self, log: ChannelLog, member: MemberRecord, start_id: int) -> None:
        """The user became a member: entries from start_id + 1 on follow."""

    def offer_gone(self, channel_id: str) -> None:
        """The user is no member of a broadcast channel any more, which no entry tells."""

    def offer_state(self, channel_id: str, piece: bytes) -> None:
        """The user's own registers of a channel changed."""

    def offer_receipts(self, channel_id: str, piece: bytes) -> None:
        """Other members' marks."""

    def offer_typing(self, piece: bytes) -> None:
        """Other members' typing."""


class Hub:
    """Fan-out in one process: every connected device of every member gets each entry once.

    In broadcast channels only those listeners get entries that look (`look`).
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[str, list[Listener]] = {}
        self._looking: dict[str, set[Listener]] = {}
        self._receipts: dict[str, dict[str, tuple[int, int]]] = {}
        self._receipt_logs: dict[str, ChannelLog] = {}
        self._receipts_armed = False
        self._feeds: set[Callable[[], None]] = set()
        self.deliveries = 0

    # --- who is there ---

    def join(self, user_id: str, listener: Listener) -> None:
        """From now on the listener is offered what its user gets."""
        self._listeners.setdefault(user_id, []).append(listener)

    def leave(self, user_id: str, listener: Listener) -> None:
        """Forgets a listener; unknown ones too."""
        listeners = self._listeners.get(user_id)
        if listeners is not None and listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[user_id]

    def listeners(self, user_id: str) -> tuple[Listener, ...]:
        """The user's listeners."""
        return tuple(self._listeners.get(user_id, ()))

    def look(self, channel_id: str, listener: Listener) -> None:
        """The listener looks at a broadcast channel."""
        self._looking.setdefault(channel_id, set()).add(listener)

    def look_away(self, channel_id: str, listener: Listener) -> None:
        """It does not any more."""
        looking = self._looking.get(channel_id)
        if looking is not None:
            looking.discard(listener)
            if not looking:
                del self._looking[channel_id]

    def watch_feed(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after each commit with entries; gives the function that stops it."""
        self._feeds.add(wake)
        return lambda: self._feeds.discard(wake)

    # --- entries ---

    def on_entry(self, log: ChannelLog, write: AppendEntry) -> None:
        """Passes a committed entry on: `Channels.on_entry`."""
        for wake in self._feeds:
            wake()
        piece = frames.entry(write.payload)
        channel_id, entry_id = write.channel_id, write.id
        if log.is_broadcast:
            looking = self._looking.get(channel_id)
            if looking:
                for listener in tuple(looking):
                    listener.offer(channel_id, entry_id, piece)
                self.deliveries += len(looking)
            return
        removed = None
        if write.kind in _MEMBER_KINDS:
            removed = self._change_members(log, parse(write.payload))
        listeners = self._listeners
        count = 0
        for user_id in log.live_members:
            for listener in listeners.get(user_id, ()):
                listener.offer(channel_id, entry_id, piece)
                count += 1
        self.deliveries += count
        if removed is not None:
            log.live_members.discard(removed)

    def _change_members(self, log: ChannelLog, entry: entry_pb2.Entry) -> str | None:
        """Brings `live_members` up to an entry. Who is removed still gets the entry itself and is
        given back."""
        kind = entry.WhichOneof("kind")
        if kind == "member_removed":
            return entry.member_removed.user_id
        added = (
            entry.channel_created.members
            if kind == "channel_created"
            else entry.members_added.members
        )
        for ref in added:
            log.live_members.add(ref.user_id)
            member = log.members[ref.user_id]
            for listener in self._listeners.get(ref.user_id, ()):
                listener.offer_opened(log, member, entry.id - 1)
        return None

    def opened(self, log: ChannelLog, member: MemberRecord) -> None:
        """A user joined a broadcast channel: their devices learn of it."""
        for listener in self.listeners(member.user_id):
            listener.offer_opened(log, member, log.committed_id)

    def gone(self, channel_id: str, user_id: str) -> None:
        """A user's membership of a broadcast channel ended."""
        for listener in self.listeners(user_id):
            self.look_away(channel_id, listener)
            listener.offer_gone(channel_id)

    # --- registers ---

    def state_changed(
        self, user_id: str, state: channel_pb2.ChannelState, *, but: str = ""
    ) -> None:
        """Tells a user's devices of their own registers, but for the device that set them."""
        listeners = self._listeners.get(user_id)
        if not listeners:
            return
        piece = b""
        for listener in tuple(listeners):
            if not but or listener.device_id != but:
                piece = piece or frames.event(entry_pb2.Event(state=state))
                listener.offer_state(state.channel_id, piece)

    def marks_changed(self, log: ChannelLog, member: MemberRecord) -> None:
        """Notes a member's marks for the next receipt flush. A later mark overwrites an earlier
        one, so a channel costs its members one frame a flush, however many read."""
        if log.is_broadcast:
            return
        self._receipts.setdefault(log.id, {})[member.user_id] = (
            member.delivered_id,
            member.read_id,
        )
        self._receipt_logs[log.id] = log
        if not self._receipts_armed:
            self._receipts_armed = True
            self._loop.call_later(RECEIPT_FLUSH_S, self._receipts_due)

    def _receipts_due(self) -> None:
        self._receipts_armed = False
        self.flush_receipts()

    def flush_receipts(self) -> None:
        """Passes on what is noted; called before a stamp is given that covers it."""
        if not self._receipts:
            return
        receipts, self._receipts = self._receipts, {}
        logs, self._receipt_logs = self._receipt_logs, {}
        for channel_id, marks in receipts.items():
            piece = b"".join(
                frames.receipt(
                    channel_pb2.Receipt(
                        channel_id=channel_id,
                        user_id=user_id,
                        delivered_id=delivered_id,
                        read_id=read_id,
                    )
                )
                for user_id, (delivered_id, read_id) in marks.items()
            )
            only = next(iter(marks)) if len(marks) == 1 else None
            for user_id in logs[channel_id].live_members:
                if user_id == only:
                    continue  # nobody needs their own receipt alone
                for listener in self._listeners.get(user_id, ()):
                    listener.offer_receipts(channel_id, piece)

    # --- typing ---

    def typing(self, log: ChannelLog, signal: connect_pb2.Typing) -> None:
        """Tells the other members who types. May be lost."""
        piece = frames.typing(signal)
        if log.is_broadcast:
            for listener in tuple(self._looking.get(log.id, ())):
                listener.offer_typing(piece)
            return
        for user_id in log.live_members:
            if user_id != signal.user_id:
                for listener in self._listeners.get(user_id, ()):
                    listener.offer_typing(piece)
