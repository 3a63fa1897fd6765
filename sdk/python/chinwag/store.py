"""What a device keeps over restarts: a port, what its implementations share, and one in memory.

`SqliteStore` (sqlite_store.py) is the other implementation; one test suite holds for both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chinwag import events as ev
from chinwag import projection
from chinwag.chat.v1 import channel_pb2, entry_pb2, message_pb2
from chinwag.errors import StoreMismatch
from chinwag.outbox import Send

_BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST


@dataclass(slots=True)
class Saved:
    """What a store holds when a client starts.

    Attributes:
        sends: Unresolved messages, in order.
    """

    cursors: list[ev.Cursor] = field(default_factory=list)
    stamp: str = ""
    account_cursor: str = ""
    sends: list[Send] = field(default_factory=list)


class ClientStore(Protocol):
    """A device's store: for one user and one process at a time.

    Methods are short and do not wait for a network. Each takes effect whole or not at all, also if
    the process is killed in between.
    """

    def load(self) -> Saved:
        """What was kept."""

    def bind(self, user_id: str) -> None:
        """Says whose store it is.

        Raises:
            StoreMismatch: It holds another user's data.
        """

    def add_send(self, send: Send) -> None:
        """Keeps a message until `remove_sends`, before it first goes out."""

    def remove_sends(self, client_message_ids: Sequence[str]) -> None:
        """These are resolved: stored, refused or given up. Unknown ones are passed over."""

    def commit(self, events: Sequence[ev.Event]) -> None:
        """The application took these events: moves the cursors behind them and brings the copy of
        messages, channels and registers up to them. A deletion removes the text of the message
        and of its edits; a reset drops what was kept of the channel."""

    def messages(
        self, channel_id: str, *, before_id: int = 0, limit: int = 50, thread_root_id: int = 0
    ) -> list[message_pb2.Message]:
        """The newest kept messages below `before_id` (0: the newest) of the main timeline or a
        thread, ids rising. Only what this device got; `Channel.history` reads the server's."""

    def channels(self) -> list[channel_pb2.Channel]:
        """The kept channels, by id."""

    def state(self, channel_id: str) -> channel_pb2.ChannelState | None:
        """The user's registers of a channel."""

    def close(self) -> None:
        """Nothing is called after it."""


class Tables(Protocol):
    """What `apply` needs: the rows of a store, within one transaction."""

    def put_cursor(self, cursor: ev.Cursor) -> None: ...

    def put_stamp(self, stamp: str) -> None: ...

    def put_account_cursor(self, cursor: str) -> None: ...

    def get_message(self, channel_id: str, message_id: int) -> message_pb2.Message | None: ...

    def put_message(self, message: message_pb2.Message) -> None: ...

    def get_channel(self, channel_id: str) -> channel_pb2.Channel | None: ...

    def put_channel(self, channel: channel_pb2.Channel) -> None: ...

    def put_state(self, state: channel_pb2.ChannelState) -> None: ...

    def drop_messages(self, channel_id: str) -> None: ...

    def drop_channel(self, channel_id: str) -> None:
        """Drops the cursor, messages, channel and state."""


def apply(event: ev.Event, tables: Tables) -> None:
    """Brings a store up to an event."""
    if isinstance(event, ev.EntryEvent):
        _apply_entry(event.entry, tables)
        tables.put_cursor(event.cursor)
    elif isinstance(event, ev.StateChanged):
        tables.put_state(event.state)
    elif isinstance(event, ev.StampReached):
        tables.put_stamp(event.stamp)
    elif isinstance(event, ev.GapSeen):
        tables.put_cursor(event.cursor)
    elif isinstance(event, ev.ChannelOpened):
        tables.put_channel(event.channel)
        tables.put_state(event.state)
        # A broadcast channel is followed only while it is looked at.
        if event.channel.kind != _BROADCAST:
            tables.put_cursor(event.cursor)
    elif isinstance(event, ev.ChannelReset):
        if event.cursor is None:
            tables.drop_channel(event.channel_id)
        else:
            tables.drop_messages(event.channel_id)
            tables.put_cursor(event.cursor)
    elif isinstance(event, ev.AccountChanged):
        tables.put_account_cursor(event.event.cursor)


def _apply_entry(entry: entry_pb2.Entry, tables: Tables) -> None:
    kind = entry.WhichOneof("kind")
    if kind == "message_sent":
        tables.put_message(projection.new_message(entry))
        root_id = entry.message_sent.thread_root_id
        root = tables.get_message(entry.channel_id, root_id) if root_id else None
        if root is not None:
            projection.reply(root, entry)
            tables.put_message(root)
    elif target_id := projection.target_id(entry):
        message = tables.get_message(entry.channel_id, target_id)
        if message is not None:
            projection.change(message, entry)
            tables.put_message(message)
    elif kind in ("channel_created", "channel_updated"):
        settings = entry.channel_created if kind == "channel_created" else entry.channel_updated
        channel = tables.get_channel(entry.channel_id)
        if channel is not None and not entry.redacted:
            settings_now = channel_pb2.Channel()
            settings_now.CopyFrom(settings.channel)
            for name in ("generation", "member_count", "head_id", "head_count"):
                setattr(settings_now, name, getattr(channel, name))
            tables.put_channel(settings_now)
    elif kind == "channel_deleted":
        channel = tables.get_channel(entry.channel_id)
        if channel is not None:
            channel.delete_time.CopyFrom(entry.create_time)
            tables.put_channel(channel)


class MemoryStore:
    """A store for the life of a process: implements `ClientStore`.

    Args:
        max_messages: Messages kept a channel, the oldest go first; 0: none.
    """

    def __init__(self, *, max_messages: int = 200) -> None:
        self._max_messages = max_messages
        self._user_id = ""
        self._cursors: dict[str, ev.Cursor] = {}
        self._stamp = self._account_cursor = ""
        self._sends: dict[str, Send] = {}
        self._messages: dict[str, dict[int, message_pb2.Message]] = {}
        self._channels: dict[str, channel_pb2.Channel] = {}
        self._states: dict[str, channel_pb2.ChannelState] = {}

    def load(self) -> Saved:
        sends = sorted(self._sends.values(), key=lambda send: send.number)
        return Saved(list(self._cursors.values()), self._stamp, self._account_cursor, sends)

    def bind(self, user_id: str) -> None:
        if self._user_id not in ("", user_id):
            raise StoreMismatch(f"this store is {self._user_id}'s, not {user_id}'s")
        self._user_id = user_id

    def add_send(self, send: Send) -> None:
        self._sends[send.request.client_message_id] = send

    def remove_sends(self, client_message_ids: Sequence[str]) -> None:
        for client_message_id in client_message_ids:
            self._sends.pop(client_message_id, None)

    def commit(self, events: Iterable[ev.Event]) -> None:
        for event in events:
            apply(event, self)

    def messages(
        self, channel_id: str, *, before_id: int = 0, limit: int = 50, thread_root_id: int = 0
    ) -> list[message_pb2.Message]:
        found = [
            message
            for message in self._messages.get(channel_id, {}).values()
            if message.thread_root_id == thread_root_id
            and (not before_id or message.id < before_id)
        ]
        return [copy.deepcopy(message) for message in found[max(len(found) - limit, 0) :]]

    def channels(self) -> list[channel_pb2.Channel]:
        return [self._channels[channel_id] for channel_id in sorted(self._channels)]

    def state(self, channel_id: str) -> channel_pb2.ChannelState | None:
        return self._states.get(channel_id)

    def close(self) -> None:
        pass

    # --- Tables ---

    def put_cursor(self, cursor: ev.Cursor) -> None:
        self._cursors[cursor.channel_id] = cursor

    def put_stamp(self, stamp: str) -> None:
        self._stamp = stamp

    def put_account_cursor(self, cursor: str) -> None:
        self._account_cursor = cursor

    def get_message(self, channel_id: str, message_id: int) -> message_pb2.Message | None:
        return self._messages.get(channel_id, {}).get(message_id)

    def put_message(self, message: message_pb2.Message) -> None:
        if not self._max_messages:
            return
        kept = self._messages.setdefault(message.channel_id, {})
        kept[message.id] = message
        if len(kept) > self._max_messages:
            del kept[next(iter(kept))]

    def get_channel(self, channel_id: str) -> channel_pb2.Channel | None:
        return self._channels.get(channel_id)

    def put_channel(self, channel: channel_pb2.Channel) -> None:
        # A copy: a part of a frame would keep the whole frame in memory.
        self._channels[channel.id] = copy.deepcopy(channel)

    def put_state(self, state: channel_pb2.ChannelState) -> None:
        self._states[state.channel_id] = copy.deepcopy(state)

    def drop_messages(self, channel_id: str) -> None:
        self._messages.pop(channel_id, None)

    def drop_channel(self, channel_id: str) -> None:
        self._cursors.pop(channel_id, None)
        self._messages.pop(channel_id, None)
        self._channels.pop(channel_id, None)
        self._states.pop(channel_id, None)
