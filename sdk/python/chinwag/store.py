"""What a client keeps over restarts: cursors, the outbox, and a copy of its messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag.events import Cursor


@dataclass(slots=True)
class SavedSend:
    """A message that waits to be sent: `order` rises with each, `time_s` is when it was made."""

    order: int
    time_s: float
    request: connect_pb2.SendMessageRequest


@dataclass(slots=True)
class Saved:
    """What a store holds when a client starts."""

    cursors: dict[str, Cursor] = field(default_factory=dict)
    stamp: str = ""
    outbox: list[SavedSend] = field(default_factory=list)


class ClientStore(Protocol):
    """A device's store. Methods are short and do not wait; each takes effect whole or not at all.

    A cursor is committed after the application took what it stands for, so a client that is
    killed and started again goes on with the entry that was in work.
    """

    def load(self) -> Saved:
        """What was kept."""

    def add_send(self, send: SavedSend) -> None:
        """Keeps a message until `remove_send`."""

    def remove_send(self, client_message_id: str) -> None:
        """The message is resolved: stored, refused or given up."""

    def commit(self, cursor: Cursor, entry: entry_pb2.Entry | None) -> None:
        """Moves a channel's cursor, and with an entry updates the copy of messages: a deletion
        removes the text of the message and of its edits."""

    def reset(self, channel_id: str, cursor: Cursor | None) -> None:
        """Drops the copy of a channel and starts at `cursor`, or forgets the channel."""

    def set_stamp(self, stamp: str) -> None:
        """Keeps the newest stamp."""

    def set_state(self, state: channel_pb2.ChannelState) -> None:
        """Keeps the user's registers of a channel."""

    def state(self, channel_id: str) -> channel_pb2.ChannelState | None: ...

    def messages(
        self, channel_id: str, before_id: int = 0, limit: int = 50
    ) -> list[entry_pb2.Entry]:
        """The newest kept messages below `before_id` (0: the newest), ids rising, each as a
        MessageSent entry with its newest content."""

    def close(self) -> None: ...


def apply(
    entry: entry_pb2.Entry, known: entry_pb2.Entry | None
) -> tuple[int, entry_pb2.Entry] | None:
    """What an entry makes of the copy: (message id, its MessageSent entry as it is now).

    Args:
        known: The copy of the message that an edit or deletion is about.
    """
    kind = entry.WhichOneof("kind")
    if kind == "message_sent":
        return entry.id, entry
    if known is None:
        return None
    now = entry_pb2.Entry()
    now.CopyFrom(known)
    if kind == "message_edited" and not entry.redacted and not now.redacted:
        now.message_sent.content.CopyFrom(entry.message_edited.content)
    elif kind == "message_deleted":
        now.redacted = True
        now.message_sent.ClearField("content")
    else:
        return None
    return now.id, now


def target_of(entry: entry_pb2.Entry) -> int:
    """The message that an edit or deletion is about; 0 for other entries."""
    return entry.message_edited.message_id or entry.message_deleted.message_id


class MemoryStore:
    """A store for the life of a process.

    Args:
        max_messages: Messages kept a channel; the oldest go first.
    """

    def __init__(self, *, max_messages: int = 1000) -> None:
        self._saved = Saved()
        self._sends: dict[str, SavedSend] = {}
        self._messages: dict[str, dict[int, entry_pb2.Entry]] = {}
        self._states: dict[str, channel_pb2.ChannelState] = {}
        self._max_messages = max_messages

    def load(self) -> Saved:
        return Saved(
            dict(self._saved.cursors),
            self._saved.stamp,
            sorted(self._sends.values(), key=lambda send: send.order),
        )

    def add_send(self, send: SavedSend) -> None:
        self._sends[send.request.client_message_id] = send

    def remove_send(self, client_message_id: str) -> None:
        self._sends.pop(client_message_id, None)

    def commit(self, cursor: Cursor, entry: entry_pb2.Entry | None) -> None:
        self._saved.cursors[cursor.channel_id] = cursor
        if entry is None:
            return
        messages = self._messages.setdefault(cursor.channel_id, {})
        changed = apply(entry, messages.get(target_of(entry)))
        if changed is not None:
            messages[changed[0]] = changed[1]
            if len(messages) > self._max_messages:
                del messages[next(iter(messages))]

    def reset(self, channel_id: str, cursor: Cursor | None) -> None:
        self._messages.pop(channel_id, None)
        if cursor is None:
            self._saved.cursors.pop(channel_id, None)
            self._states.pop(channel_id, None)
        else:
            self._saved.cursors[channel_id] = cursor

    def set_stamp(self, stamp: str) -> None:
        self._saved.stamp = stamp

    def set_state(self, state: channel_pb2.ChannelState) -> None:
        self._states[state.channel_id] = state

    def state(self, channel_id: str) -> channel_pb2.ChannelState | None:
        return self._states.get(channel_id)

    def messages(
        self, channel_id: str, before_id: int = 0, limit: int = 50
    ) -> list[entry_pb2.Entry]:
        kept: Iterable[entry_pb2.Entry] = self._messages.get(channel_id, {}).values()
        found = sorted(
            (entry for entry in kept if not before_id or entry.id < before_id),
            key=lambda entry: entry.id,
        )
        return found[-limit:]

    def close(self) -> None:
        """Nothing to do."""
