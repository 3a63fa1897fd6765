"""The account store in memory: for tests, and the plainest statement of what a store does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from chinwag_server.account.records import (
    ApiKeyRecord,
    BlockRecord,
    ChoreRecord,
    DeleteBlock,
    EraseRows,
    EventRecord,
    NameRecord,
    RelationRecord,
    RelationState,
    RequestRecord,
    SessionRecord,
    SigningKeyRecord,
    TrimEvents,
    UserRecord,
    Write,
)
from chinwag_server.account.store import Conflict, Position, StoreUnavailable

Row = TypeVar("Row")


class MemoryAccountStore:
    """`AccountStore` in dictionaries.

    Args:
        delay: Seconds that every write takes.

    Attributes:
        broken: Set: writes raise StoreUnavailable.
    """

    def __init__(self, *, generation: int = 1, delay: float = 0.0) -> None:
        self.generation = generation
        self.broken = False
        self._delay = delay
        self._users: dict[str, UserRecord] = {}
        self._sessions: dict[tuple[str, str], SessionRecord] = {}
        self._relations: dict[tuple[str, str], RelationRecord] = {}
        self._blocks: dict[tuple[str, str], BlockRecord] = {}
        self._events: dict[tuple[str, int], EventRecord] = {}
        self._requests: dict[tuple[str, str, str], RequestRecord] = {}
        self._chores: dict[tuple[str, str, str], ChoreRecord] = {}
        self._names: dict[str, NameRecord] = {}
        self._api_keys: dict[str, ApiKeyRecord] = {}
        self._signing_keys: dict[str, SigningKeyRecord] = {}
        self._secrets: dict[str, bytes] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _write(self) -> None:
        # As in a real store, others run between a read and the write that follows it.
        await asyncio.sleep(self._delay)
        if self.broken:
            raise StoreUnavailable("the store is broken")

    # --- users ---

    async def user(self, user_id: str) -> UserRecord | None:
        return self._users.get(user_id)

    async def users(
        self, user_ids: Collection[str], *, may_be_old: bool = False
    ) -> dict[str, UserRecord]:
        return {user_id: self._users[user_id] for user_id in user_ids if user_id in self._users}

    def changed_elsewhere(self, user_id: str) -> None:
        pass

    async def commit(self, user: UserRecord, writes: Sequence[Write] = ()) -> None:
        await self._write()
        stored = self._users.get(user.user_id)
        if (stored.version if stored else 0) != user.version:
            raise Conflict(user.user_id)
        self._users[user.user_id] = dataclasses.replace(user, version=user.version + 1)
        for write in writes:
            self._apply(write)

    def _apply(self, write: Write) -> None:
        match write:
            case SessionRecord():
                self._sessions[write.user_id, write.device_id] = write
            case RelationRecord():
                self._relations[write.user_id, write.other_id] = write
            case BlockRecord():
                self._blocks[write.user_id, write.other_id] = write
            case EventRecord():
                self._events[write.user_id, write.id] = write
            case RequestRecord():
                self._requests[write.partition, write.scope, write.request_id] = write
            case ChoreRecord():
                self._chores[write.user_id, write.kind, write.target] = write
            case DeleteBlock():
                self._blocks.pop((write.user_id, write.other_id), None)
            case TrimEvents():
                _drop(
                    self._events, lambda row: row.user_id == write.user_id and row.id <= write.to_id
                )
            case EraseRows():
                mine: list[dict[Any, Any]] = [self._relations, self._blocks, self._events]
                for table in mine:
                    _drop(table, lambda row: row.user_id == write.user_id)
                _drop(self._requests, lambda row: row.partition == write.user_id)

    async def session(self, user_id: str, device_id: str) -> SessionRecord | None:
        return self._sessions.get((user_id, device_id))

    async def sessions(self, user_id: str) -> list[SessionRecord]:
        found = [
            row
            for row in self._sessions.values()
            if row.user_id == user_id and not row.ended_time_us
        ]
        return sorted(found, key=lambda row: (row.create_time_us, row.device_id), reverse=True)

    async def live_sessions(
        self, devices: Collection[tuple[str, str]], now_us: int
    ) -> set[tuple[str, str]]:
        found = {device: self._sessions.get(device) for device in devices}
        return {device for device, session in found.items() if session and session.live(now_us)}

    async def expired_sessions(self, now_us: int, limit: int) -> list[SessionRecord]:
        return [
            row
            for row in self._sessions.values()
            if not row.ended_time_us and row.expire_time_us <= now_us
        ][:limit]

    async def relation(self, user_id: str, other_id: str) -> RelationRecord:
        return self._relations.get((user_id, other_id), RelationRecord(user_id, other_id))

    async def relations(
        self,
        user_id: str,
        states: Collection[RelationState],
        after: Position | None,
        limit: int,
        *,
        may_be_old: bool = False,
    ) -> list[RelationRecord]:
        found = [r for r in self._relations.values() if r.user_id == user_id and r.state in states]
        return _page(found, lambda row: (row.time_us, row.other_id), after, limit)

    async def count_relations(self, user_id: str, states: Collection[RelationState]) -> int:
        return sum(r.user_id == user_id and r.state in states for r in self._relations.values())

    async def block(self, user_id: str, other_id: str) -> BlockRecord | None:
        return self._blocks.get((user_id, other_id))

    async def blocks(self, user_id: str, after: Position | None, limit: int) -> list[BlockRecord]:
        found = [row for row in self._blocks.values() if row.user_id == user_id]
        return _page(found, lambda row: (row.time_us, row.other_id), after, limit)

    async def count_blocks(self, user_id: str) -> int:
        return sum(row.user_id == user_id for row in self._blocks.values())

    async def events(self, user_id: str, after_id: int, limit: int) -> list[EventRecord]:
        found = [r for r in self._events.values() if r.user_id == user_id and r.id > after_id]
        return sorted(found, key=lambda row: row.id)[:limit]

    async def bans(self, now_us: int, after: Position | None, limit: int) -> list[UserRecord]:
        found = [row for row in self._users.values() if row.ban and row.ban.holds(now_us)]
        return _page(
            found, lambda row: (row.ban.create_time_us if row.ban else 0, row.user_id), after, limit
        )

    # --- answers and chores ---

    async def request(self, partition: str, scope: str, request_id: str) -> RequestRecord | None:
        return self._requests.get((partition, scope, request_id))

    async def put_request(self, request: RequestRecord) -> None:
        await self._write()
        key = (request.partition, request.scope, request.request_id)
        self._requests.setdefault(key, request)

    async def chores(self, now_us: int, limit: int) -> list[ChoreRecord]:
        return [row for row in self._chores.values() if row.due_time_us <= now_us][:limit]

    async def finish_chore(self, chore: ChoreRecord) -> None:
        await self._write()
        key = (chore.user_id, chore.kind, chore.target)
        stored = self._chores.get(key)
        if stored is not None and stored.revision == chore.revision:
            del self._chores[key]

    async def put_off_chore(self, chore: ChoreRecord, due_time_us: int) -> None:
        await self._write()
        key = (chore.user_id, chore.kind, chore.target)
        stored = self._chores.get(key)
        if stored is not None and stored.revision == chore.revision:
            self._chores[key] = dataclasses.replace(stored, due_time_us=due_time_us)

    # --- names ---

    async def name(self, name: str) -> NameRecord | None:
        return self._names.get(name)

    async def put_name(self, record: NameRecord, expected: NameRecord | None) -> bool:
        await self._write()
        if self._names.get(record.name) != expected:
            return False
        self._names[record.name] = record
        return True

    async def delete_name(self, expected: NameRecord) -> bool:
        await self._write()
        if self._names.get(expected.name) != expected:
            return False
        del self._names[expected.name]
        return True

    async def unconfirmed_names(self, before_us: int, limit: int) -> list[NameRecord]:
        return [r for r in self._names.values() if not r.confirmed and r.time_us < before_us][
            :limit
        ]

    # --- keys ---

    async def api_key(self, key_id: str) -> ApiKeyRecord | None:
        return self._api_keys.get(key_id)

    async def api_keys(self, now_us: int, after: Position | None, limit: int) -> list[ApiKeyRecord]:
        found = [row for row in self._api_keys.values() if row.live(now_us)]
        return _page(found, lambda row: (row.create_time_us, row.key_id), after, limit)

    async def count_api_keys(self, now_us: int) -> int:
        return sum(row.live(now_us) for row in self._api_keys.values())

    async def put_api_key(self, record: ApiKeyRecord, request: RequestRecord | None = None) -> None:
        await self._write()
        self._api_keys[record.key_id] = record
        if request is not None:
            self._apply(request)

    async def signing_keys(self) -> list[SigningKeyRecord]:
        return sorted(
            self._signing_keys.values(), key=lambda r: (r.use_from_us, r.key_id), reverse=True
        )

    async def put_signing_key(self, record: SigningKeyRecord) -> None:
        await self._write()
        self._signing_keys[record.key_id] = record

    async def delete_signing_key(self, key_id: str) -> None:
        await self._write()
        self._signing_keys.pop(key_id, None)

    async def secret(self, name: str, proposed: bytes) -> bytes:
        await self._write()
        return self._secrets.setdefault(name, proposed)

    # --- expiry ---

    async def expire(self, *, before_us: int, events_before_us: int, limit: int) -> int:
        await self._write()
        return (
            _drop(self._requests, lambda row: row.time_us < before_us, limit)
            + _drop(self._sessions, lambda row: 0 < row.ended_time_us < before_us, limit)
            + _drop(
                self._relations,
                lambda row: row.state == RelationState.NONE and row.time_us < before_us,
                limit,
            )
            + _drop(
                self._api_keys,
                lambda row: (
                    0 < row.revoked_time_us < before_us or 0 < row.expire_time_us < before_us
                ),
                limit,
            )
            + _drop(self._events, lambda row: row.time_us < events_before_us, limit)
        )


def _drop(table: dict[Any, Any], gone: Callable[[Any], bool], limit: int = 1 << 62) -> int:
    keys = [key for key, row in table.items() if gone(row)][:limit]
    for key in keys:
        del table[key]
    return len(keys)


def _page(
    rows: Iterable[Row], position: Callable[[Row], Position], after: Position | None, limit: int
) -> list[Row]:
    ordered = sorted(rows, key=position, reverse=True)
    return [row for row in ordered if after is None or position(row) < after][:limit]
