"""The account store's port.

What belongs to a user is a partition: the user's row and the rows that hang on it. One commit
changes one partition, all or nothing, and only if nobody else has changed it since it was read;
nothing asks for a transaction over two. So the partitions may lie on different servers. Names,
API keys and signing keys are partitions of their own. Every adapter passes
tests/server/account/store_contract.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from chinwag_server.account.records import (
    ApiKeyRecord,
    BlockRecord,
    ChoreRecord,
    EventRecord,
    NameRecord,
    RelationRecord,
    RelationState,
    RequestRecord,
    SessionRecord,
    SigningKeyRecord,
    UserRecord,
    Write,
)
from chinwag_server.chat.store import StoreError, StoreUnavailable

__all__ = ["AccountStore", "Conflict", "Position", "StoreError", "StoreUnavailable"]

# Of the last row of a page: its time in microseconds, and its id.
Position = tuple[int, str]


class Conflict(Exception):
    """The partition was changed since it was read; nothing is stored. Read it and try again."""


class AccountStore(Protocol):
    """Durable storage of accounts. All methods are called on the event loop.

    What returned is durable. Any method may raise `StoreUnavailable`: nothing was stored then.
    Reads see everything that was committed before them.
    """

    @property
    def generation(self) -> int:
        """Drawn when the store was made or restored; positive."""

    async def open(self) -> None:
        """Opens and migrates; raises StoreError with what to do if it cannot."""

    async def close(self) -> None:
        """Finishes all commits, then closes."""

    # --- users ---

    async def user(self, user_id: str) -> UserRecord | None: ...

    async def users(
        self, user_ids: Collection[str], *, may_be_old: bool = False
    ) -> dict[str, UserRecord]:
        """Those that there are, by id.

        Args:
            may_be_old: Whether they may be as they were a few seconds ago, but for what this
                process has changed since: for what is shown, and decides nothing.
        """

    def changed_elsewhere(self, user_id: str) -> None:
        """Another node has changed something of a user: reads that may be old show it from now
        on."""

    async def commit(self, user: UserRecord, writes: Sequence[Write] = ()) -> None:
        """Replaces a user's row and does the writes, which are all of the same user.

        The stored version becomes `user.version + 1`.

        Raises:
            Conflict: The stored version is not `user.version` (0: there is no row yet).
        """

    async def session(self, user_id: str, device_id: str) -> SessionRecord | None: ...

    async def sessions(self, user_id: str) -> list[SessionRecord]:
        """Those of a user that have not ended, newest first."""

    async def live_sessions(
        self, devices: Collection[tuple[str, str]], now_us: int
    ) -> set[tuple[str, str]]:
        """Those of (user_id, device_id) whose session is live."""

    async def expired_sessions(self, now_us: int, limit: int) -> list[SessionRecord]:
        """Some that ran out and have not ended yet."""

    async def relation(self, user_id: str, other_id: str) -> RelationRecord:
        """The user's side; one with NONE and revision 0 if there is no row."""

    async def relations(
        self,
        user_id: str,
        states: Collection[RelationState],
        after: Position | None,
        limit: int,
        *,
        may_be_old: bool = False,
    ) -> list[RelationRecord]:
        """By time, newest first, then by other_id, falling; `may_be_old` as of `users`."""

    async def count_relations(self, user_id: str, states: Collection[RelationState]) -> int: ...

    async def block(self, user_id: str, other_id: str) -> BlockRecord | None: ...

    async def blocks(self, user_id: str, after: Position | None, limit: int) -> list[BlockRecord]:
        """By time, newest first, then by other_id, falling."""

    async def count_blocks(self, user_id: str) -> int: ...

    async def events(self, user_id: str, after_id: int, limit: int) -> list[EventRecord]:
        """Events with greater ids, rising."""

    async def bans(self, now_us: int, after: Position | None, limit: int) -> list[UserRecord]:
        """Users with a ban that holds, newest ban first, then by id, falling."""

    # --- answers and chores ---

    async def request(
        self, partition: str, scope: str, request_id: str
    ) -> RequestRecord | None: ...

    async def put_request(self, request: RequestRecord) -> None:
        """Remembers an answer of an API key's own partition, or one more place of a user's; the
        first one stays."""

    async def chores(self, now_us: int, limit: int) -> list[ChoreRecord]:
        """Some that are due."""

    async def finish_chore(self, chore: ChoreRecord) -> None:
        """Forgets a chore that was done, unless it was noted again since (another revision)."""

    async def put_off_chore(self, chore: ChoreRecord, due_time_us: int) -> None:
        """Gives a chore another time, unless it was noted again since."""

    # --- names ---

    async def name(self, name: str) -> NameRecord | None: ...

    async def put_name(self, record: NameRecord, expected: NameRecord | None) -> bool:
        """Replaces a name's row if it is still `expected` (None: there is none); whether it was."""

    async def delete_name(self, expected: NameRecord) -> bool:
        """Frees a name if its row is still `expected`; whether it was."""

    async def unconfirmed_names(self, before_us: int, limit: int) -> list[NameRecord]:
        """Some that were reserved before a time and are not confirmed."""

    # --- keys ---

    async def api_key(self, key_id: str) -> ApiKeyRecord | None: ...

    async def api_keys(self, now_us: int, after: Position | None, limit: int) -> list[ApiKeyRecord]:
        """Those that may be used, newest first, then by id, falling."""

    async def count_api_keys(self, now_us: int) -> int: ...

    async def put_api_key(self, record: ApiKeyRecord, request: RequestRecord | None = None) -> None:
        """Makes or replaces a key, and remembers the answer to the call that did it."""

    async def signing_keys(self) -> list[SigningKeyRecord]:
        """All of them, newest `use_from_us` first."""

    async def put_signing_key(self, record: SigningKeyRecord) -> None: ...

    async def delete_signing_key(self, key_id: str) -> None: ...

    async def secret(self, name: str, proposed: bytes) -> bytes:
        """The secret of a name; `proposed` becomes it if there is none."""

    # --- expiry ---

    async def expire(self, *, before_us: int, events_before_us: int, limit: int) -> int:
        """Forgets what is older: remembered answers, ended sessions, NONE relations and revoked
        or ended API keys `before_us`, events `events_before_us`. At most `limit` rows of each;
        how many they were in all."""
