"""The store in PostgreSQL while its server is killed, frozen, full of connections or read-only."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.records import BlockRecord, EventRecord, UserRecord
from chinwag_server.account.store import Conflict, StoreUnavailable
from chinwag_server.rpc.eager import run_eagerly
from tests.server.account.clock import START_US
from tests.server.account.postgres_server import (
    QUICK,
    empty,
    mortal_server,
    mortal_url,
    opened,
    shared_server,
    shared_url,
    sql,
)
from tests.server.account.store_contract import put
from tools.engines.postgres import Postgres

__all__ = ["mortal_server", "mortal_url", "shared_server", "shared_url"]

PATIENT = dataclasses.replace(QUICK, patience_s=20.0)
HASTY = dataclasses.replace(QUICK, statement_s=1.0, patience_s=2.0)


@pytest.fixture
async def mortal(mortal_server: Postgres, mortal_url: str) -> Postgres:
    await empty(mortal_url)
    return mortal_server


@pytest.fixture
def url(mortal_url: str) -> str:
    return mortal_url


@pytest.fixture
async def shared(shared_url: str) -> AsyncIterator[PostgresAccountStore]:
    await empty(shared_url)
    async with opened(shared_url) as store:
        yield store


async def test_a_call_that_no_task_runs_yet(shared: PostgresAccountStore) -> None:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[UserRecord | None] = loop.create_future()

    async def ask() -> None:
        found.set_result(await shared.user("nobody"))

    # As frames of a device's stream are handled.
    loop.call_soon(run_eagerly, ask())
    async with asyncio.timeout(5.0):
        assert await found is None


# --- several nodes ---


async def test_of_two_nodes_one_wins(shared: PostgresAccountStore, shared_url: str) -> None:
    async with opened(shared_url) as other:
        for number in range(20):
            user = await shared.user("ann") or UserRecord("ann")
            event = EventRecord("ann", number, START_US, b"")
            outcomes = await asyncio.gather(
                shared.commit(user, [event]), other.commit(user, [event]), return_exceptions=True
            )
            assert {type(outcome) for outcome in outcomes} == {type(None), Conflict}
        found = await other.user("ann")
        assert found is not None
        assert found.version == 20


async def test_of_many_who_change_a_user_each_has_their_turn(
    shared: PostgresAccountStore, shared_url: str
) -> None:
    async def change(store: PostgresAccountStore, number: int) -> None:
        while True:
            user = await store.user("ann") or UserRecord("ann")
            user = dataclasses.replace(user, event_id=user.event_id + 1)
            event = EventRecord("ann", user.event_id, START_US, f"{number}".encode())
            try:
                await store.commit(user, [event])
                return
            except Conflict:
                continue

    async with opened(shared_url) as other:
        stores = [shared, other]
        await asyncio.gather(*(change(stores[number % 2], number) for number in range(30)))
    events = await shared.events("ann", 0, 100)
    assert [event.id for event in events] == list(range(1, 31))
    assert {int(event.payload) for event in events} == set(range(30))


# --- servers that end ---


class Writer:
    """Adds to one user's log for as long as it is let.

    Attributes:
        acked: The newest event whose commit returned.
        failures: Commits that did not.
    """

    def __init__(self, store: PostgresAccountStore, user_id: str) -> None:
        self.acked = 0
        self.failures = 0
        self._store = store
        self._user_id = user_id

    async def run(self, going: asyncio.Event) -> None:
        while going.is_set():
            try:
                user = await self._store.user(self._user_id) or UserRecord(self._user_id)
                # Nobody else writes here: what is not stored was not acked.
                assert user.event_id >= self.acked
                user = dataclasses.replace(user, event_id=user.event_id + 1)
                event = EventRecord(self._user_id, user.event_id, START_US, b"")
                await self._store.commit(user, [event])
                self.acked = user.event_id
            except StoreUnavailable:
                self.failures += 1


async def test_a_server_that_is_killed_under_commits(mortal: Postgres, url: str) -> None:
    going = asyncio.Event()
    going.set()
    async with opened(url, settings=PATIENT) as store:
        writers = [Writer(store, f"u{number}") for number in range(12)]
        running = [asyncio.ensure_future(writer.run(going)) for writer in writers]
        for _ in range(2):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(mortal.kill)
            await asyncio.to_thread(mortal.start)
        await asyncio.sleep(0.3)
        going.clear()
        # A conflict would end the test: nobody but the writer changes its user.
        await asyncio.gather(*running)
        for writer in writers:
            user = await store.user(writer._user_id)
            assert user is not None
            events = await store.events(user.user_id, 0, 100_000)
            assert [event.id for event in events] == list(range(1, user.event_id + 1))
            assert user.event_id == user.version
            # The server came back in time: each commit was told for what it was.
            assert (writer.failures, writer.acked) == (0, user.event_id)
    assert sum(writer.acked for writer in writers) > 50


async def test_a_server_that_is_restarted_between_calls(mortal: Postgres, url: str) -> None:
    async with opened(url, settings=PATIENT) as store:
        await put(store, "ann")
        await asyncio.to_thread(mortal.stop)
        await asyncio.to_thread(mortal.start)
        assert await store.user("ann") is not None
        await asyncio.to_thread(mortal.kill)
        await asyncio.to_thread(mortal.start)
        await put(store, "ann", BlockRecord("ann", "bob", START_US))
        assert await store.count_blocks("ann") == 1


async def test_a_server_that_stays_away(mortal: Postgres, url: str) -> None:
    async with opened(url, settings=HASTY) as store:
        user = await put(store, "ann")
        await asyncio.to_thread(mortal.stop)
        try:
            async with asyncio.timeout(HASTY.patience_s + 5):
                with pytest.raises(StoreUnavailable):
                    await store.commit(user)
                with pytest.raises(StoreUnavailable):
                    await store.user("ann")
        finally:
            await asyncio.to_thread(mortal.start)
        assert await store.user("ann") == user
        await store.commit(user)


async def test_a_frozen_server(mortal: Postgres, url: str) -> None:
    async with opened(url, settings=HASTY) as store:
        user = await put(store, "ann")
        mortal.freeze()
        try:
            async with asyncio.timeout(HASTY.patience_s + 5):
                outcomes = await asyncio.gather(
                    store.user("ann"), store.commit(user), return_exceptions=True
                )
        finally:
            mortal.thaw()
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        # What the commit came to is seen by who looks.
        found = await store.user("ann")
        assert found is not None
        assert found.version in (user.version, user.version + 1)
        await put(store, "ann")


# --- servers that refuse ---


async def test_a_server_that_has_become_read_only(mortal: Postgres, url: str) -> None:
    setting = "ALTER SYSTEM SET default_transaction_read_only"
    async with opened(url, settings=HASTY) as store:
        user = await put(store, "ann")
        await sql(url, f"{setting} = on", "SELECT pg_reload_conf()")
        await asyncio.sleep(0.2)
        with pytest.raises(StoreUnavailable):
            await store.commit(user)
        await sql(url, "SET transaction_read_only = off", f"{setting} = off")
        await sql(url, "SELECT pg_reload_conf()")
        await asyncio.sleep(0.2)
        await store.commit(user)


async def test_a_server_with_too_many_connections(shared_server: Postgres, shared_url: str) -> None:
    await sql(shared_url, "CREATE ROLE few LOGIN SUPERUSER PASSWORD 'x'")
    url = shared_server.url("shared", user="few", password="x")
    async with opened(url, settings=HASTY) as store:
        # A limit of connections does not hold for superusers.
        await sql(shared_url, "ALTER ROLE few NOSUPERUSER CONNECTION LIMIT 0")
        await sql(shared_url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO few")
        with pytest.raises(StoreUnavailable, match="code 53300"):
            await store.user("ann")
        await sql(shared_url, "ALTER ROLE few CONNECTION LIMIT -1")
        assert await store.user("nobody") is None


async def test_what_waits_is_bounded(shared_url: str) -> None:
    settings = dataclasses.replace(QUICK, connections=1, waiting=10)
    async with opened(shared_url, settings=settings) as store:
        outcomes = await asyncio.gather(
            *(store.user("nobody") for _ in range(50)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable)]
        assert 20 < len(refused) < 50
        assert "too slow" in str(refused[0])
        assert await store.user("nobody") is None


# --- callers that give up, and the end ---


async def test_a_commit_whose_caller_gives_up_is_done(shared: PostgresAccountStore) -> None:
    commit = asyncio.ensure_future(shared.commit(UserRecord("ann")))
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    for _ in range(200):
        if await shared.user("ann") is not None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the commit was not done")


async def test_commits_that_were_made_before_closing_are_finished(shared_url: str) -> None:
    await empty(shared_url)
    async with opened(shared_url) as store:
        commits = [
            asyncio.ensure_future(store.commit(UserRecord(f"u{number}"))) for number in range(100)
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*commits)
    async with opened(shared_url) as store:
        assert len(await store.users([f"u{number}" for number in range(100)])) == 100


async def test_closed_it_says_so(shared_url: str) -> None:
    async with opened(shared_url) as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.commit(UserRecord("ann"))
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.user("ann")
    await store.close()
