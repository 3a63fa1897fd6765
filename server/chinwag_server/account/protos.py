"""From records to the contract's messages."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from chinwag.account.v1 import user_pb2
from chinwag_server.account.records import (
    ApiKeyRecord,
    BanRecord,
    RelationRecord,
    RelationState,
    SessionRecord,
    UserRecord,
)

DEFAULT_PRIVACY = user_pb2.PrivacySettings(
    write=user_pb2.AUDIENCE_EVERYONE,
    add_to_channels=user_pb2.AUDIENCE_EVERYONE,
    presence=user_pb2.AUDIENCE_CONTACTS,
    last_seen=user_pb2.AUDIENCE_CONTACTS,
    find=user_pb2.AUDIENCE_EVERYONE,
    request_friend=user_pb2.AUDIENCE_EVERYONE,
)


def timestamp(time_us: int) -> Timestamp | None:
    """A time; None for 0, which no field is set by."""
    if not time_us:
        return None
    return some_timestamp(time_us)


def some_timestamp(time_us: int) -> Timestamp:
    """A time in microseconds since 1970."""
    seconds, micros = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def time_us(time: Timestamp) -> int:
    """A timestamp in microseconds since 1970."""
    return time.seconds * 1_000_000 + time.nanos // 1000


def user(record: UserRecord) -> user_pb2.User:
    """A profile as everybody sees it."""
    if record.deleted:
        return user_pb2.User(id=record.user_id, deleted=True)
    message = user_pb2.User.FromString(record.profile)
    message.id = record.user_id
    message.username = record.username
    message.display_name = message.display_name or record.username or record.user_id
    message.create_time.CopyFrom(some_timestamp(record.create_time_us))
    message.update_time.CopyFrom(some_timestamp(record.update_time_us))
    return message


def user_or_gone(found: Mapping[str, UserRecord], user_id: str) -> user_pb2.User:
    """A profile; one that is not there is shown as deleted."""
    record = found.get(user_id)
    return user(record) if record else user_pb2.User(id=user_id, deleted=True)


def privacy(record: UserRecord) -> user_pb2.PrivacySettings:
    """Privacy settings, whole."""
    settings = user_pb2.PrivacySettings()
    settings.CopyFrom(DEFAULT_PRIVACY)
    settings.MergeFromString(record.privacy)
    return settings


def device(record: SessionRecord, *, current: str = "") -> user_pb2.Device:
    """A session as its user sees it."""
    return user_pb2.Device(
        id=record.device_id,
        info=user_pb2.DeviceInfo.FromString(record.info),
        create_time=timestamp(record.create_time_us),
        last_active_time=timestamp(record.active_time_us),
        last_address=record.address,
        expire_time=timestamp(record.expire_time_us),
        current=bool(current) and record.device_id == current,
    )


def friend(record: RelationRecord, other: user_pb2.User) -> user_pb2.Friend:
    """A friendship as one of the two sees it."""
    return user_pb2.Friend(user=other, create_time=timestamp(record.time_us))


def friend_request(record: RelationRecord, other: user_pb2.User) -> user_pb2.FriendRequest:
    """An open request as one of the two sees it."""
    outgoing = record.state is RelationState.REQUESTED_BY_ME
    return user_pb2.FriendRequest(
        user=other,
        direction=user_pb2.FRIEND_REQUEST_DIRECTION_OUTGOING
        if outgoing
        else user_pb2.FRIEND_REQUEST_DIRECTION_INCOMING,
        message=record.message,
        create_time=timestamp(record.time_us),
    )


def ban(user_id: str, record: BanRecord) -> user_pb2.Ban:
    """A ban as the team sees it."""
    return user_pb2.Ban(
        user_id=user_id,
        reason=record.reason,
        create_time=timestamp(record.create_time_us),
        expire_time=timestamp(record.expire_time_us),
        api_key_id=record.api_key_id,
    )


def api_key(record: ApiKeyRecord) -> user_pb2.ApiKey:
    """An API key without its secret."""
    return user_pb2.ApiKey(
        id=record.key_id,
        name=record.name,
        scopes=record.scopes,
        create_time=timestamp(record.create_time_us),
        expire_time=timestamp(record.expire_time_us),
        last_used_time=timestamp(record.used_time_us),
        creator_key_id=record.creator_key_id,
    )


_RELATIONS = {
    RelationState.NONE: user_pb2.RELATION_NONE,
    RelationState.FRIEND: user_pb2.RELATION_FRIEND,
    RelationState.REQUESTED_BY_ME: user_pb2.RELATION_REQUESTED_BY_ME,
    RelationState.REQUESTED_BY_THEM: user_pb2.RELATION_REQUESTED_BY_THEM,
}


def relation(state: RelationState) -> user_pb2.Relation.ValueType:
    """What another user is to the caller."""
    return _RELATIONS[state]
