"""What an account store keeps: rows, and how a commit changes them.

Times are microseconds since 1970; 0 is "not". A record stands for its whole row: handed to a
commit it makes the row or replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


@dataclass(slots=True, frozen=True)
class BanRecord:
    """A ban; `expire_time_us` 0: for ever."""

    create_time_us: int
    reason: str = ""
    expire_time_us: int = 0
    api_key_id: str = ""

    def holds(self, now_us: int) -> bool:
        """Whether it keeps the user out now."""
        return not self.expire_time_us or now_us < self.expire_time_us


@dataclass(slots=True, frozen=True)
class UserRecord:
    """A user: the row that every commit of their partition replaces.

    Attributes:
        version: Rises by one with every commit; 0: there is no row yet.
        username: Empty: none. The name table has the last word on whose a name is.
        password_hash: In argon2's own form; empty: the account has no password.
        profile: A serialised `User` with display_name, bio, avatar_url, metadata and
            service_account alone.
        privacy: A serialised `PrivacySettings`; fields that were never set are missing.
        event_id: Of the newest account event; ids are dense from 1.
        status: A serialised `UserStatus` of presence: what the user says of themselves.
        status_time_us: When its mode began.
    """

    user_id: str
    version: int = 0
    username: str = ""
    password_hash: str = field(default="", repr=False)
    profile: bytes = b""
    privacy: bytes = b""
    create_time_us: int = 0
    update_time_us: int = 0
    deleted: bool = False
    ban: BanRecord | None = None
    event_id: int = 0
    status: bytes = b""
    status_time_us: int = 0


@dataclass(slots=True, frozen=True)
class SessionRecord:
    """A login of a device. Ended ones stay for a while, so that their tokens are told apart
    from forged ones.

    Attributes:
        info: A serialised `DeviceInfo`.
        salt: Goes into the refresh tokens; another one voids those that were given out.
        refresh_count: How often the tokens were refreshed: the number of the newest one.
        refreshable: Whether a refresh token was given out.
        token_time_us: When the newest pair of tokens was made.
        expire_time_us: When the session ends unless it is refreshed before.
        end_reason: A `DeviceRevokeReason`, of an ended one.
        acked_event_id: The newest account event that the device has handled.
    """

    user_id: str
    device_id: str
    info: bytes = b""
    salt: bytes = field(default=b"", repr=False)
    refresh_count: int = 0
    refreshable: bool = False
    create_time_us: int = 0
    active_time_us: int = 0
    address: str = ""
    token_time_us: int = 0
    expire_time_us: int = 0
    ended_time_us: int = 0
    end_reason: int = 0
    acked_event_id: int = 0

    def live(self, now_us: int) -> bool:
        """Whether its tokens hold."""
        return not self.ended_time_us and now_us < self.expire_time_us


class RelationState(IntEnum):
    """What the other user is to the one whose row it is."""

    NONE = 0
    FRIEND = 1
    REQUESTED_BY_ME = 2
    REQUESTED_BY_THEM = 3


@dataclass(slots=True, frozen=True)
class RelationRecord:
    """One side of a friendship or a request.

    Attributes:
        revision: Of the pair's state; it only rises. NONE rows stay a while to carry it.
        time_us: When the state began.
        message: What the asker wrote.
    """

    user_id: str
    other_id: str
    state: RelationState = RelationState.NONE
    revision: int = 0
    time_us: int = 0
    message: str = ""


@dataclass(slots=True, frozen=True)
class BlockRecord:
    """`user_id` has blocked `other_id`."""

    user_id: str
    other_id: str
    time_us: int


@dataclass(slots=True, frozen=True)
class EventRecord:
    """An account event: `payload` is a serialised `AccountEvent` without id and cursor, with
    users by their ids alone."""

    user_id: str
    id: int
    time_us: int
    payload: bytes


@dataclass(slots=True, frozen=True)
class RequestRecord:
    """The remembered answer to a request_id.

    Attributes:
        partition: The user whom the call was about, or "key:" and an API key's id.
        scope: Who called.
    """

    partition: str
    scope: str
    request_id: str
    time_us: int
    content_hash: bytes
    response: bytes


@dataclass(slots=True, frozen=True)
class ChoreRecord:
    """Something that has to follow a commit, elsewhere. One a (user, kind, target).

    Attributes:
        revision: The user's version at the commit that noted it.
        due_time_us: From when on the repair may do it, if nobody has.
    """

    user_id: str
    kind: str
    target: str
    revision: int
    due_time_us: int


# --- what else a commit can do ---


@dataclass(slots=True, frozen=True)
class DeleteBlock:
    """Takes a block back."""

    user_id: str
    other_id: str


@dataclass(slots=True, frozen=True)
class TrimEvents:
    """Forgets the events up to an id."""

    user_id: str
    to_id: int


@dataclass(slots=True, frozen=True)
class EraseRows:
    """Forgets blocks, events, relations and remembered answers of a user who is gone."""

    user_id: str


Write = (
    SessionRecord
    | RelationRecord
    | BlockRecord
    | EventRecord
    | RequestRecord
    | ChoreRecord
    | DeleteBlock
    | TrimEvents
    | EraseRows
)


# --- beside the users ---


@dataclass(slots=True, frozen=True)
class NameRecord:
    """A username: reserved, and confirmed once the user's row has it."""

    name: str
    user_id: str
    confirmed: bool
    time_us: int


@dataclass(slots=True, frozen=True)
class ApiKeyRecord:
    """An API key; of the secret only its SHA-256."""

    key_id: str
    name: str
    scopes: tuple[str, ...]
    secret_hash: bytes = field(repr=False)
    create_time_us: int
    expire_time_us: int = 0
    used_time_us: int = 0
    creator_key_id: str = ""
    revoked_time_us: int = 0

    def live(self, now_us: int) -> bool:
        """Whether it may be used."""
        return not self.revoked_time_us and (
            not self.expire_time_us or now_us < self.expire_time_us
        )


@dataclass(slots=True, frozen=True)
class SigningKeyRecord:
    """An Ed25519 key pair: `private` is the seed of 32 bytes.

    Attributes:
        use_from_us: Tokens are signed with the newest key whose time has come.
    """

    key_id: str
    private: bytes = field(repr=False)
    use_from_us: int
