"""What the terminal client shows: channels, messages, who types. No terminal, no network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, entry_pb2, message_pb2

TYPING_S = 6.0
MAX_MESSAGES = 2000


@dataclass(slots=True)
class Line:
    """A message as it is shown.

    Attributes:
        id: 0 while it waits to be sent.
        key: Its client_message_id.
        reactions: Emoji and how many chose it.
        failed: Why it was not sent.
    """

    id: int
    key: str
    sender_id: str
    time: datetime | None
    text: str
    edited: bool = False
    deleted: bool = False
    reactions: dict[str, int] = field(default_factory=dict)
    failed: str = ""

    @property
    def is_waiting(self) -> bool:
        return not self.id and not self.failed


@dataclass(slots=True)
class Room:
    """A channel as it is shown."""

    id: str
    kind: int = 0
    name: str = ""
    member_ids: tuple[str, ...] = ()
    unread: int = 0
    mentions: int = 0
    read_id: int = 0
    head_id: int = 0
    order: float = 0.0
    gone: bool = False
    lines: list[Line] = field(default_factory=list)
    typing: dict[str, float] = field(default_factory=dict)
    has_older: bool = True
    loaded: bool = False

    def find(self, message_id: int) -> Line | None:
        """The shown message of an id."""
        for line in reversed(self.lines):
            if line.id == message_id:
                return line
        return None


class Model:
    """The client's view of everything.

    Args:
        user_id: Who looks.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.rooms: dict[str, Room] = {}
        self.names: dict[str, str] = {}
        self.connection = ev.Connection.CONNECTING
        self.problem = ""

    # --- people and titles ---

    def name(self, user_id: str) -> str:
        """A user's name, or the id while it is not known."""
        return self.names.get(user_id) or user_id[:12] or "the server"

    def unknown_users(self) -> set[str]:
        """Users that are shown and whose names are not known."""
        shown = {line.sender_id for room in self.rooms.values() for line in room.lines}
        for room in self.rooms.values():
            shown.update(room.member_ids)
            shown.update(room.typing)
        return {user_id for user_id in shown if user_id and user_id not in self.names}

    def title(self, room: Room) -> str:
        """What a channel is called: its name, or the other user of a direct channel."""
        if room.kind == channel_pb2.CHANNEL_KIND_DIRECT:
            others = [user for user in room.member_ids if user != self.user_id]
            return f"@{self.name(others[0])}" if others else "@?"
        mark = "!" if room.kind == channel_pb2.CHANNEL_KIND_BROADCAST else "#"
        return f"{mark}{room.name or room.id[:8]}"

    def ordered(self) -> list[Room]:
        """The channels to list, the newest first."""
        rooms = [room for room in self.rooms.values() if not room.gone]
        return sorted(rooms, key=lambda room: (-room.order, room.id))

    # --- what the server says ---

    def take_view(self, view: chat_service_pb2.ChannelView) -> Room:
        """A channel of ListChannels."""
        room = self._room(view.channel.id)
        self._settings(room, view.channel)
        self._state(room, view.state)
        moment = (
            view.last_message.create_time
            if view.HasField("last_message")
            else view.channel.create_time
        )
        room.order = max(room.order, moment.ToNanoseconds() / 1e9)
        return room

    def take_history(self, room: Room, messages: Iterable[message_pb2.Message]) -> None:
        """A page of older messages: those that are shown already stay as they are."""
        known = {line.id for line in room.lines if line.id}
        older = [
            Line(
                message.id,
                message.client_message_id,
                message.sender_id,
                message.create_time.ToDatetime().astimezone(),
                message.content.text,
                edited=message.HasField("edit_time"),
                deleted=message.HasField("delete_time"),
                reactions={group.emoji: group.count for group in message.reactions},
            )
            for message in messages
            if message.id not in known and not message.thread_root_id
        ]
        room.lines = sorted(older + room.lines, key=lambda line: (line.id or 1 << 62, line.key))

    def apply(self, event: ev.Event) -> str | None:
        """Takes an event; gives the channel that changed, "" for the connection or the list."""
        if isinstance(event, ev.ConnectionChanged):
            self.connection = event.connection
            self.problem = str(event.error) if event.error is not None else ""
            return ""
        if isinstance(event, ev.EntryEvent):
            return self._entry(event)
        if isinstance(event, ev.ChannelOpened):
            room = self._room(event.channel_id)
            room.gone = False
            self._settings(room, event.channel)
            self._state(room, event.state)
            room.order = max(room.order, event.channel.create_time.ToNanoseconds() / 1e9)
            return room.id
        if isinstance(event, ev.ChannelReset):
            room = self._room(event.channel_id)
            room.lines.clear()
            room.loaded = False
            room.gone = event.cursor is None
            return room.id
        if isinstance(event, ev.StateChanged):
            room = self._room(event.channel_id)
            self._state(room, event.state)
            return room.id
        return None

    def apply_typing(self, event: ev.TypingChanged, now: float) -> str:
        """Notes who types."""
        room = self._room(event.channel_id)
        if event.active:
            room.typing[event.user_id] = now + TYPING_S
        else:
            room.typing.pop(event.user_id, None)
        return room.id

    def typing(self, room: Room, now: float) -> str:
        """Who types in a channel, as a line."""
        room.typing = {user: until for user, until in room.typing.items() if until > now}
        names = sorted(self.name(user) for user in room.typing)
        if not names:
            return ""
        if len(names) > 3:
            return f"{len(names)} people are typing"
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} typing"

    # --- what the user does ---

    def post(self, room: Room, key: str, text: str) -> Line:
        """Shows a message that is on its way."""
        line = Line(0, key, self.user_id, None, text)
        room.lines.append(line)
        return line

    def fail(self, room: Room, key: str, reason: str) -> None:
        """Shows that a message was not sent."""
        for line in room.lines:
            if line.key == key and not line.id:
                line.failed = reason

    # --- inside ---

    def _room(self, channel_id: str) -> Room:
        return self.rooms.setdefault(channel_id, Room(channel_id))

    @staticmethod
    def _settings(room: Room, channel: channel_pb2.Channel) -> None:
        room.kind = channel.kind or room.kind
        room.name = channel.name
        room.head_id = max(room.head_id, channel.head_id)
        if channel.direct_user_ids:
            room.member_ids = tuple(channel.direct_user_ids)
        if channel.HasField("delete_time"):
            room.gone = True

    @staticmethod
    def _state(room: Room, state: channel_pb2.ChannelState) -> None:
        room.read_id = state.read_id
        room.unread = state.unread_count
        room.mentions = state.unread_mention_count
        room.head_id = max(room.head_id, state.head_id)

    def _entry(self, event: ev.EntryEvent) -> str:
        room = self._room(event.channel_id)
        entry = event.entry
        room.head_id = max(room.head_id, entry.id)
        room.order = max(room.order, entry.create_time.ToNanoseconds() / 1e9)
        if isinstance(event, ev.MessageReceived):
            self._message(room, event)
        elif isinstance(event, ev.MessageEdited) and (line := room.find(event.message_id)):
            line.text, line.edited = event.text, True
        elif isinstance(event, ev.MessageDeleted) and (line := room.find(event.message_id)):
            line.text, line.deleted = "", True
            line.reactions.clear()
        elif isinstance(event, ev.ReactionChanged) and (line := room.find(event.message_id)):
            count = line.reactions.get(event.emoji, 0) + (1 if event.added else -1)
            line.reactions[event.emoji] = count
            if count <= 0:
                del line.reactions[event.emoji]
        elif isinstance(event, ev.ChannelChanged):
            self._changed(room, entry)
        elif entry.member_removed.user_id == self.user_id:
            room.gone = True
        return room.id

    def _changed(self, room: Room, entry: entry_pb2.Entry) -> None:
        if entry.HasField("channel_deleted"):
            room.gone = True
        elif entry.HasField("channel_updated"):
            self._settings(room, entry.channel_updated.channel)
        else:
            self._settings(room, entry.channel_created.channel)

    def _message(self, room: Room, event: ev.MessageReceived) -> None:
        mine = event.sender_id == self.user_id
        room.typing.pop(event.sender_id, None)
        if mine:
            room.read_id, room.unread, room.mentions = event.message_id, 0, 0
        elif not event.thread_root_id and event.message_id > room.read_id:
            room.unread += 1
            mentioned = self.user_id in event.content.mentioned_user_ids
            room.mentions += mentioned or event.content.mentions_everyone
        if event.thread_root_id or room.find(event.message_id):
            return
        if mine:
            # The waiting line becomes the message.
            room.lines = [
                line for line in room.lines if line.id or line.key != event.client_message_id
            ]
        line = Line(
            event.message_id,
            event.client_message_id,
            event.sender_id,
            event.create_time.astimezone(),
            event.text,
            deleted=event.entry.redacted,
        )
        waiting = [other for other in room.lines if not other.id]
        room.lines = [other for other in room.lines if other.id]
        room.lines.append(line)
        del room.lines[:-MAX_MESSAGES]
        room.lines += waiting
