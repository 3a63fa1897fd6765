"""What follows from a commit for the devices of a channel's members: the owner's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag_server.chat import frames
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.entries import parse
from chinwag_server.chat.listeners import Delivery
from chinwag_server.chat.store import AppendEntry, EntryKind, MemberRecord

RECEIPT_FLUSH_S = 0.05

_MEMBER_KINDS = frozenset(
    {EntryKind.CHANNEL_CREATED, EntryKind.MEMBERS_ADDED, EntryKind.MEMBER_REMOVED}
)


class Hub:
    """Says who gets what: every connected device of every member gets each entry once.

    In broadcast channels only those get entries that look.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._loop = asyncio.get_running_loop()
        self._delivery = delivery
        self._receipts: dict[str, dict[str, tuple[int, int]]] = {}
        self._receipt_logs: dict[str, ChannelLog] = {}
        self._receipts_armed = False
        self._feeds: set[Callable[[], None]] = set()

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
        if log.is_broadcast:
            self._delivery.entry(write.channel_id, write.id, piece, None)
            return
        removed = None
        if write.kind in _MEMBER_KINDS:
            removed = self._change_members(log, parse(write.payload))
        self._delivery.entry(write.channel_id, write.id, piece, log.live_members)
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
            self._opened(log, log.members[ref.user_id], entry.id - 1)
        return None

    def _opened(self, log: ChannelLog, member: MemberRecord, start_id: int) -> None:
        if not self._delivery.reaches(member.user_id):
            return
        state = channel_pb2.ChannelState(
            channel_id=log.id,
            read_id=member.read_id,
            read_count=member.read_count,
            delivered_id=member.delivered_id,
            preferences=channel_pb2.ChannelPreferences.FromString(member.preferences),
            head_id=log.committed_id,
            role=member.role,  # type: ignore[arg-type]
        )
        opened = entry_pb2.ChannelOpened(
            channel=log.snapshot(log.record.generation), start_id=start_id, state=state
        )
        piece = frames.event(entry_pb2.Event(opened=opened))
        self._delivery.opened(member.user_id, log.id, piece)

    def opened(self, log: ChannelLog, member: MemberRecord) -> None:
        """A user joined a broadcast channel: their devices learn of it."""
        self._opened(log, member, log.committed_id)

    def gone(self, channel_id: str, user_id: str) -> None:
        """A user's membership of a broadcast channel ended."""
        self._delivery.gone(user_id, channel_id)

    # --- registers ---

    def reaches(self, user_id: str, but: str) -> bool:
        """Whether the user may have a device, other than that one, that is connected."""
        return self._delivery.reaches(user_id, but)

    def state_changed(
        self, user_id: str, state: channel_pb2.ChannelState, *, but: str = ""
    ) -> None:
        """Tells a user's devices of their own registers, but for the device that set them."""
        if self._delivery.reaches(user_id, but):
            piece = frames.event(entry_pb2.Event(state=state))
            self._delivery.state(user_id, state.channel_id, piece, but)

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
            members = logs[channel_id].live_members
            # Nobody needs their own receipt alone.
            self._delivery.receipts(
                channel_id, piece, members - marks.keys() if len(marks) == 1 else members
            )

    # --- typing ---

    def typing(self, log: ChannelLog, signal: connect_pb2.Typing) -> None:
        """Tells the other members who types. May be lost."""
        others = None if log.is_broadcast else log.live_members - {signal.user_id}
        self._delivery.typing(log.id, frames.typing(signal), others)
