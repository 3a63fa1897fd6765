"""The log of account events: how it grows, its cursors, and what readers get.

An event is stored with users by their ids alone and filled in when it is read: a reader sees
people as they are now, and nothing of one who is gone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

from chinwag.account.v1 import events_pb2, user_pb2
from chinwag_server.account import protos
from chinwag_server.account.records import (
    EventRecord,
    RelationRecord,
    RelationState,
    TrimEvents,
    UserRecord,
    Write,
)
from chinwag_server.account.store import AccountStore

# The log is cut in steps, so that not every event cuts it.
TRIM_EVERY = 64

_REQUESTED = (RelationState.REQUESTED_BY_ME, RelationState.REQUESTED_BY_THEM)


def append(
    user: UserRecord, now_us: int, events: Sequence[events_pb2.AccountEvent], *, keep: int
) -> tuple[UserRecord, list[Write]]:
    """Adds events to a user's log.

    Args:
        user: As the commit will store them.
        keep: How many events a log keeps.

    Returns:
        The user with the log's new head, and the writes, both for the same commit.
    """
    writes: list[Write] = []
    event_id = user.event_id
    for event in events:
        event_id += 1
        writes.append(EventRecord(user.user_id, event_id, now_us, event.SerializeToString()))
        if event_id > keep and event_id % TRIM_EVERY == 0:
            writes.append(TrimEvents(user.user_id, event_id - keep))
    return dataclasses.replace(user, event_id=event_id), writes


def of_relation(old: RelationRecord, new: RelationRecord) -> list[events_pb2.AccountEvent]:
    """What a user is told when their side of a friendship or request changes."""
    if old.state == new.state and old.time_us == new.time_us:
        return []
    found: list[events_pb2.AccountEvent] = []
    other = user_pb2.User(id=new.other_id)
    if old.state == RelationState.FRIEND:
        found.append(
            events_pb2.AccountEvent(friend_removed=events_pb2.FriendRemoved(user_id=other.id))
        )
    elif old.state in _REQUESTED and new.state != RelationState.FRIEND:
        closed = events_pb2.FriendRequestClosed(user_id=other.id)
        found.append(events_pb2.AccountEvent(friend_request_closed=closed))
    if new.state == RelationState.FRIEND:
        added = events_pb2.FriendAdded(friend=protos.friend(new, other))
        found.append(events_pb2.AccountEvent(friend_added=added))
    elif new.state in _REQUESTED:
        made = events_pb2.FriendRequestMade(request=protos.friend_request(new, other))
        found.append(events_pb2.AccountEvent(friend_request_made=made))
    return found


# --- cursors ---


def cursor(generation: int, user_id: str, event_id: int) -> str:
    """The position after an event: of which store and whose log, and where in it."""
    return f"{generation:x}.{_log_name(user_id)}.{event_id:x}"


class ForeignCursor(ValueError):
    """A cursor of another user, or none at all."""


def read_cursor(generation: int, user_id: str, text: str) -> int | None:
    """The event's id in a cursor; None: of another generation of the store.

    Raises:
        ForeignCursor: It is not of this user.
    """
    parts = text.split(".")
    try:
        made_by, log, event_id = int(parts[0], 16), parts[1], int(parts[2], 16)
    except (ValueError, IndexError) as error:
        raise ForeignCursor(text) from error
    if len(parts) != 3 or log != _log_name(user_id) or event_id < 0:
        raise ForeignCursor(text)
    return event_id if made_by == generation else None


def _log_name(user_id: str) -> str:
    return hashlib.blake2b(user_id.encode(), digest_size=6).hexdigest()


# --- reading ---


async def fill(store: AccountStore, *messages: Message, may_be_old: bool = False) -> None:
    """Completes every `User` inside of the messages from its id; `may_be_old` as of the store."""
    users = [user for message in messages for user in _users(message)]
    records = await store.users({user.id for user in users}, may_be_old=may_be_old)
    for user in users:
        user.CopyFrom(protos.user_or_gone(records, user.id))


def _users(message: Message) -> Iterator[user_pb2.User]:
    if isinstance(message, user_pb2.User):
        if message.id:
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else (value,):
            yield from _users(part)


async def read(
    store: AccountStore, user_id: str, after_id: int, limit: int
) -> list[events_pb2.AccountEvent]:
    """The next events of a user's log, whole; may be empty.

    Raises:
        EventsLost: Those after `after_id` are not kept any more.
        StoreUnavailable: The store cannot read.
    """
    records = await store.events(user_id, after_id, limit)
    if records and records[0].id != after_id + 1:
        raise EventsLost(user_id)
    if not records:
        user = await store.user(user_id)
        head_id = user.event_id if user else 0
        if head_id != after_id and not await store.events(user_id, after_id, 1):
            raise EventsLost(user_id)
        return []
    found = []
    for record in records:
        event = events_pb2.AccountEvent.FromString(record.payload)
        event.id = record.id
        event.cursor = cursor(store.generation, user_id, record.id)
        stamp = protos.timestamp(record.time_us)
        assert stamp is not None
        event.create_time.CopyFrom(stamp)
        found.append(event)
    await fill(store, *found)
    return found


class EventsLost(Exception):
    """The log cannot say what came after a position: the reader reads everything anew."""


async def reset(store: AccountStore, user_id: str, now_us: int) -> events_pb2.AccountEvent:
    """What stands for everything up to the log's head."""
    user = await store.user(user_id)
    head_id = user.event_id if user else 0
    return events_pb2.AccountEvent(
        id=head_id,
        cursor=cursor(store.generation, user_id, head_id),
        create_time=protos.timestamp(now_us),
        reset=events_pb2.AccountReset(),
    )
