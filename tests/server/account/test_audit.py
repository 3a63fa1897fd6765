"""What another node has changed holds here within its time, also if nobody has told of it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2 as pb
from chinwag.account.v1 import events_pb2
from chinwag.common.v1 import close_pb2
from chinwag_server.account.audit import AuditSettings
from chinwag_server.account.cache import Epochs
from chinwag_server.account.memory import MemoryAccountStore
from chinwag_server.account.records import SessionRecord, UserRecord
from chinwag_server.account.room import open_room
from chinwag_server.account.store import StoreUnavailable
from chinwag_server.account.users import Draft
from chinwag_server.datadir import DataDir
from chinwag_server.mesh.memory_bus import Hub, MemoryBus
from chinwag_server.rpc.auth import TokenKind
from chinwag_server.rpc.caller import Caller
from tests.server.account.clock import START_US, FakeClock
from tests.server.account.nodes import (
    NEVER,
    StartNode,
    comes_to,
    for_real,
    nodes,
    other_device,
    revoke,
    standing,
)
from tests.server.account.postgres_server import empty, shared_server, shared_url
from tests.server.account.rules import PASSWORD, Person, Rules
from tests.server.serving import settings_for
from tools.engines.redis import Redis

__all__ = ["shared_server", "shared_url"]

REVOKED = close_pb2.CLOSE_REASON_SESSION_REVOKED
SETTINGS = AuditSettings()
# As far as a test's patience goes.
SOON = dataclasses.replace(SETTINGS, every_s=0.02, answer_s=0.1)


class WatchedStore(MemoryAccountStore):
    """Says what it was asked, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.frozen = False
        self.batches: list[int] = []
        self.looked_up: list[str] = []
        # Done once, just before a user is read.
        self.first: Callable[[], Awaitable[object]] | None = None

    async def user(self, user_id: str) -> UserRecord | None:
        await self._ask()
        first, self.first = self.first, None
        if first is not None:
            await first()
        return await super().user(user_id)

    async def users(
        self, user_ids: Collection[str], *, may_be_old: bool = False
    ) -> dict[str, UserRecord]:
        await self._ask()
        self.batches.append(len(user_ids))
        return await super().users(user_ids)

    async def session(self, user_id: str, device_id: str) -> SessionRecord | None:
        await self._ask()
        self.looked_up.append(device_id)
        return await super().session(user_id, device_id)

    async def live_sessions(
        self, devices: Collection[tuple[str, str]], now_us: int
    ) -> set[tuple[str, str]]:
        await self._ask()
        self.batches.append(len(devices))
        return await super().live_sessions(devices, now_us)

    async def _ask(self) -> None:
        if self.frozen:
            await asyncio.sleep(3600)
        if self.away:
            raise StoreUnavailable("the store is away")


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
async def start(store: WatchedStore, tmp_path: Path) -> AsyncIterator[StartNode]:
    async with nodes(tmp_path, lambda: store, None) as starts:
        yield starts


@pytest.fixture
async def here(start: StartNode) -> Rules:
    return await start()


@pytest.fixture
async def there(here: Rules, start: StartNode) -> Rules:
    """A node that hears nothing, and audits when a test says so."""
    return await start()


async def known(node: Rules, person: Person) -> str:
    """`standing` of a device's token on a node, which commits nothing."""
    authenticate = node.room.authenticator.authenticate
    return await standing(lambda: authenticate(person.tokens.access_token, TokenKind.ACCESS))


async def audit(node: Rules) -> None:
    sharing: Any = node.room._sharing
    await sharing._audit.look()


def connect(node: Rules, person: Person) -> None:
    node.chat.callers.append(Caller(person.id, person.tokens.device_id))


# --- what is remembered ---


async def test_a_revoked_session_is_honoured_for_ten_seconds_at_most(
    here: Rules, there: Rules
) -> None:
    ann = await here.sign_up("ann")
    phone = await other_device(ann, "ann")
    assert await known(there, phone) == ""
    await ann.call("RevokeDevice", revoke(phone))
    there.clock.advance(SETTINGS.hold_s - 0.1)
    assert await known(there, phone) == ""
    there.clock.advance(0.1)
    assert await known(there, phone) == "SESSION_REVOKED"


async def test_an_audit_finds_it_sooner(here: Rules, there: Rules) -> None:
    ann, bob = await here.sign_up("ann"), await here.sign_up("bob")
    phone = await other_device(ann, "ann")
    directory = there.room.directory
    assert await known(there, phone) == ""
    assert await directory.may_write(bob.id, ann.id)
    await ann.call("RevokeDevice", revoke(phone))
    await ann.call("BlockUser", pb.BlockUserRequest(user_id=bob.id))
    assert await directory.may_write(bob.id, ann.id)
    await audit(there)
    assert await known(there, phone) == "SESSION_REVOKED"
    assert not await directory.may_write(bob.id, ann.id)


async def test_a_change_while_it_is_looked_up_is_not_missed(
    here: Rules, there: Rules, store: WatchedStore
) -> None:
    ann = await here.sign_up("ann")
    phone = await other_device(ann, "ann")
    store.first = lambda: ann.call("RevokeDevice", revoke(phone))
    await known(there, phone)
    await audit(there)
    assert await known(there, phone) == "SESSION_REVOKED"


async def test_what_has_not_changed_is_not_asked_anew(
    here: Rules, there: Rules, store: WatchedStore
) -> None:
    ann, bob = await here.sign_up("ann"), await here.sign_up("bob")
    directory = there.room.directory
    assert await known(there, ann) == ""
    assert await directory.may_write(ann.id, bob.id)
    before = len(store.looked_up)
    for _ in range(10):
        there.clock.advance(SETTINGS.every_s)
        await audit(there)
        assert await known(there, ann) == ""
        assert await directory.may_write(ann.id, bob.id)
    assert len(store.looked_up) == before
    # Both users in one question each time.
    assert store.batches[-10:] == [2] * 10


async def test_while_the_store_is_away_what_is_known_holds_for_a_minute(
    here: Rules, there: Rules, store: WatchedStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ann = await here.sign_up("ann")
    assert await known(there, ann) == ""
    store.away = True
    await audit(there)
    there.clock.advance(SETTINGS.outage_s - 1)
    await audit(there)
    assert await known(there, ann) == ""
    there.clock.advance(1)
    assert await known(there, ann) == "STORAGE_UNAVAILABLE"
    store.away = False
    await audit(there)
    assert await known(there, ann) == ""
    texts = [record.message for record in caplog.records if "compared" in record.message]
    assert [" not " in text for text in texts] == [True, False]


async def test_a_store_that_hangs_counts_as_away(
    here: Rules, start: StartNode, store: WatchedStore
) -> None:
    there = await start(SOON)
    ann = await here.sign_up("ann")
    assert await known(there, ann) == ""
    store.frozen = True
    sharing: Any = there.room._sharing
    await there.settle(lambda: sharing.epochs.hold_s == SETTINGS.outage_s)
    store.frozen = False
    await there.settle(lambda: sharing.epochs.hold_s == SETTINGS.hold_s)


# --- who has a stream open ---


async def test_streams_of_ended_sessions_are_closed(
    here: Rules, there: Rules, store: WatchedStore
) -> None:
    ann, bob, cid, dan = [await here.sign_up(name) for name in ("ann", "bob", "cid", "dan")]
    phone = await other_device(ann, "ann")
    for person in (ann, phone, bob, cid, dan):
        connect(there, person)
    # A key's stream for a user, and a user who is not in the store.
    there.chat.callers += [Caller(bob.id, api_key_id="k"), Caller("nobody", "d")]
    await store.put_api_key(await _key(here))
    await audit(there)
    assert there.chat.ended == [("nobody", None, close_pb2.CLOSE_REASON_ACCOUNT_DELETED)]
    there.chat.ended.clear()
    there.chat.callers.pop()
    await ann.call("RevokeDevice", revoke(phone))
    await here.backend("BanUser", pb.BanUserRequest(user_id=bob.id))
    await cid.call("DeleteAccount", pb.DeleteAccountRequest(password=PASSWORD))
    await audit(there)
    assert set(there.chat.ended) == {
        (ann.id, phone.tokens.device_id, REVOKED),
        (bob.id, None, close_pb2.CLOSE_REASON_BANNED),
        (cid.id, None, close_pb2.CLOSE_REASON_ACCOUNT_DELETED),
    }
    assert set(there.chat.revoked_keys) == {"k"}


async def _key(node: Rules) -> Any:
    secret = await node.api_key("users:read")
    record = await node.store.api_key(secret.split("_")[1])
    assert record is not None
    return dataclasses.replace(record, key_id="k", revoked_time_us=START_US)


async def test_readers_of_events_are_woken(here: Rules, there: Rules) -> None:
    ann, bob = await here.sign_up("ann"), await here.sign_up("bob")
    told: list[events_pb2.AccountEvent] = []
    reached: list[str] = []
    there.room.watchers.subscribe(bob.id, "", "", told.append, reached=reached.append)
    connect(there, bob)
    await there.settle(lambda: bool(reached))
    before = len(told)
    await ann.call("RequestFriend", pb.RequestFriendRequest(user_id=bob.id))
    await asyncio.sleep(0.02)
    assert len(told) == before
    await audit(there)
    await there.settle(lambda: len(told) > before)
    assert told[before].HasField("friend_request_made")


async def test_many_are_asked_for_in_batches(there: Rules, store: WatchedStore) -> None:
    for number in range(1200):
        user_id = f"u{number}"
        sessions = [
            SessionRecord(user_id, f"d{device}", expire_time_us=START_US + 10**9)
            for device in range(2)
        ]
        await store.commit(UserRecord(user_id), sessions)
        there.chat.callers += [Caller(user_id, "d0"), Caller(user_id, "d1")]
    store.batches.clear()
    await audit(there)
    assert max(store.batches) <= SETTINGS.batch
    assert sum(store.batches) == 1200 + 2400
    assert there.chat.ended == []


async def test_after_a_gap_it_is_looked_for_at_once(store: WatchedStore, tmp_path: Path) -> None:
    hub = Hub()
    async with nodes(tmp_path, lambda: store, lambda: MemoryBus(hub)) as start:
        here, there = await start(), await start()
        ann = await here.sign_up("ann")
        phone = await other_device(ann, "ann")
        connect(there, phone)
        await asyncio.sleep(0.05)
        hub.away = True
        await ann.call("RevokeDevice", revoke(phone))
        await asyncio.sleep(0.05)
        assert there.chat.ended == []
        hub.away = False
        hub.lose()
        await there.settle(lambda: bool(there.chat.ended))


async def test_one_process_does_nothing_of_it(tmp_path: Path) -> None:
    clock, data_dir = FakeClock(), DataDir(tmp_path)
    alone: Any = open_room(settings_for(tmp_path), data_dir, clock)
    assert alone._sharing is None
    assert type(alone.directory._epochs) is Epochs
    with_bus: Any = open_room(settings_for(tmp_path), data_dir, clock, MemoryBus(Hub()))
    assert with_bus._sharing is not None
    # Another process may use it too, also if nothing tells of it.
    url = "postgresql://127.0.0.1:1/none"
    on_postgres: Any = open_room(settings_for(tmp_path, stores__accounts_url=url), data_dir, clock)
    assert on_postgres._sharing is not None


# --- for real ---


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


async def test_the_bus_dies_and_comes_back(redis: Redis, shared_url: str, tmp_path: Path) -> None:
    await empty(shared_url)
    async with for_real(tmp_path, shared_url, redis.url) as start:
        here, there = await start(NEVER), await start(SETTINGS)
        ann, bob = await here.sign_up("ann"), await here.sign_up("bob")
        devices = [await other_device(ann, "ann") for _ in range(3)]
        told: list[events_pb2.AccountEvent] = []
        there.room.watchers.subscribe(bob.id, "", "", told.append)
        for person in (bob, *devices):
            connect(there, person)
            assert await known(there, person) == ""

        async def ended() -> int:
            return len({device_id for _, device_id, _ in there.chat.ended})

        async def requests() -> int:
            return sum(event.HasField("friend_request_made") for event in told)

        # It works: at once.
        await ann.call("RevokeDevice", revoke(devices[0]))
        assert await comes_to(ended, 1, within_s=2.0) < 2.0
        # The bus is away: within the bound.
        redis.kill()
        await asyncio.sleep(0.1)
        await ann.call("RevokeDevice", revoke(devices[1]))
        await ann.call("RequestFriend", pb.RequestFriendRequest(user_id=bob.id))
        await comes_to(
            lambda: known(there, devices[1]), "SESSION_REVOKED", within_s=SETTINGS.hold_s
        )
        await comes_to(ended, 2, within_s=SETTINGS.hold_s)
        await comes_to(requests, 1, within_s=SETTINGS.hold_s)
        # It is back: at once again.
        redis.start()

        probe: list[str] = []
        there.room.users.on_change.append(probe.append)

        async def heard() -> bool:
            await here.room.users.change(bob.id, _touch)
            return bool(probe)

        await comes_to(heard, True, within_s=10.0)
        await ann.call("RevokeDevice", revoke(devices[2]))
        await comes_to(ended, 3, within_s=2.0)


async def _touch(draft: Draft) -> None:
    draft.set(update_time_us=draft.user.update_time_us + 1)
