"""What chat asks about people: `chat.directory.Directory` over the account store.

`may_write` is asked for every message of a direct channel, so an answer is one look into a
dictionary as long as nothing of either user has changed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chinwag.account.v1 import user_pb2
from chinwag_server.account.audiences import Audiences, Right
from chinwag_server.account.cache import Cache, Epochs
from chinwag_server.account.records import RelationState, UserRecord
from chinwag_server.account.store import AccountStore, StoreUnavailable
from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal

# Channels change without the account room hearing of it.
CONTACTS_HOLD_US = 10_000_000
FOR_EVER_US = 1 << 62


@dataclass(slots=True, frozen=True)
class Sight:
    """Whom of those who ask a user lets see their presence, as it stands between the two.

    Attributes:
        friends: Whether they are friends.
        presence, last_seen: Who may see it: an audience; nobody where one has blocked the other.
    """

    friends: bool
    presence: user_pb2.Audience.ValueType
    last_seen: user_pb2.Audience.ValueType

    def shows(self, audience: user_pb2.Audience.ValueType, *, contact: bool) -> bool:
        """Whether the one who asks is in an audience.

        Args:
            contact: Whether the two share a channel.
        """
        if audience == user_pb2.AUDIENCE_EVERYONE:
            return True
        if audience == user_pb2.AUDIENCE_NOBODY:
            return False
        return self.friends or (contact and audience == user_pb2.AUDIENCE_CONTACTS)


@dataclass(slots=True, frozen=True)
class _Answer:
    """Whether, until when, and the epochs of both users under which it was found."""

    yes: bool
    until_us: int
    asker_epoch: int
    user_epoch: int


class AccountDirectory:
    """Answers from the store, and remembers.

    Args:
        size: Answers that are remembered.
        epochs: When a user has changed; None: of its own.
    """

    def __init__(
        self,
        store: AccountStore,
        audiences: Audiences,
        clock: Clock,
        *,
        size: int = 200_000,
        epochs: Epochs | None = None,
    ) -> None:
        self._store = store
        self._audiences = audiences
        self._clock = clock
        self._epochs = Epochs(size) if epochs is None else epochs
        self._live: Cache[str, int] = Cache(size)
        self._answers: Cache[tuple[Right, str, str], _Answer] = Cache(size)
        # With the epochs of both under which it was found.
        self._sights: Cache[tuple[str, str], tuple[int, int, Sight | None]] = Cache(size)

    def changed(self, user_id: str) -> None:
        """Something of a user has changed: nothing that is remembered of them holds."""
        self._epochs.change(user_id)

    async def existing(self, user_ids: Collection[str]) -> set[str]:
        found = {id_ for id_ in user_ids if self._live.get(id_) == self._epochs.of(id_)}
        unknown = [user_id for user_id in user_ids if user_id not in found]
        if not unknown:
            return found
        epochs = {user_id: self._epochs.of(user_id) for user_id in unknown}
        try:
            records = await self._store.users(unknown)
        except StoreUnavailable as error:
            raise storage_unavailable(error) from error
        for user_id, record in records.items():
            if not record.deleted:
                self._epochs.found(user_id, epochs[user_id], record.version)
                self._live.put(user_id, epochs[user_id])
                found.add(user_id)
        return found

    async def may_write(self, sender_id: str, recipient_id: str) -> bool:
        return await self._may("write", sender_id, recipient_id)

    async def may_add(self, adder_id: str, user_id: str) -> bool:
        return await self._may("add_to_channels", adder_id, user_id)

    async def sight(self, viewer_id: str, owner_id: str) -> Sight | None:
        """What a user's presence is to another; None: there is no such user.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        epochs = self._epochs.of(viewer_id), self._epochs.of(owner_id)
        known = self._sights.get((viewer_id, owner_id))
        if known is not None and known[:2] == epochs:
            return known[2]
        try:
            # Before blocks and friends, as in `_find`.
            users = await self._store.users({viewer_id, owner_id})
            for user_id, epoch in zip((viewer_id, owner_id), epochs, strict=True):
                record = users.get(user_id)
                self._epochs.found(user_id, epoch, record.version if record else 0)
            found = await self._sight(viewer_id, users.get(owner_id))
        except StoreUnavailable as error:
            raise storage_unavailable(error) from error
        self._sights.put((viewer_id, owner_id), (*epochs, found))
        return found

    async def _sight(self, viewer_id: str, owner: UserRecord | None) -> Sight | None:
        if owner is None or owner.deleted:
            return None
        if await self._audiences.blocked(owner.user_id, viewer_id):
            nobody = user_pb2.AUDIENCE_NOBODY
            return Sight(False, nobody, nobody)
        relation = await self._store.relation(owner.user_id, viewer_id)
        return Sight(
            relation.state == RelationState.FRIEND,
            self._audiences.of(owner, "presence"),
            self._audiences.of(owner, "last_seen"),
        )

    async def _may(self, right: Right, asker_id: str, user_id: str) -> bool:
        key = (right, asker_id, user_id)
        asker_epoch, user_epoch = self._epochs.of(asker_id), self._epochs.of(user_id)
        known = self._answers.get(key)
        if (
            known is not None
            and known.asker_epoch == asker_epoch
            and known.user_epoch == user_epoch
            and (known.until_us == FOR_EVER_US or self._clock.time_us() < known.until_us)
        ):
            return known.yes
        epochs = {asker_id: asker_epoch, user_id: user_epoch}
        try:
            yes, until_us = await self._find(right, asker_id, user_id, epochs)
        except StoreUnavailable as error:
            raise storage_unavailable(error) from error
        self._answers.put(key, _Answer(yes, until_us, asker_epoch, user_epoch))
        return yes

    async def _find(
        self, right: Right, asker_id: str, user_id: str, epochs: dict[str, int]
    ) -> tuple[bool, int]:
        now_us = self._clock.time_us()
        # Before blocks and friends: a version older than what is remembered hides no change.
        users = await self._store.users({asker_id, user_id} - {""})
        for found_id, epoch in epochs.items():
            record = users.get(found_id)
            self._epochs.found(found_id, epoch, record.version if record else 0)
        owner = users.get(user_id)
        stands, until_us = _standing(owner, now_us)
        if stands and asker_id:
            # A sender whose ban has begun, or who is gone, has calls under way at most.
            stands, until_us = _standing(users.get(asker_id), now_us)
        if owner is None or not stands:
            return False, until_us
        if self._audiences.of(owner, right) == user_pb2.AUDIENCE_CONTACTS:
            until_us = min(until_us, now_us + CONTACTS_HOLD_US)
        return await self._audiences.admits(owner, right, asker_id), until_us


def _standing(record: UserRecord | None, now_us: int) -> tuple[bool, int]:
    """Whether a user can take part, and until when that is so if nothing changes."""
    if record is None or record.deleted:
        return False, FOR_EVER_US
    if record.ban is not None and record.ban.holds(now_us):
        return False, record.ban.expire_time_us or FOR_EVER_US
    return True, FOR_EVER_US


def storage_unavailable(error: Exception) -> Refusal:
    """STORAGE_UNAVAILABLE."""
    return Refusal("STORAGE_UNAVAILABLE", str(error), retry_after=1.0)
