"""What every account store guarantees. A module with a `store` fixture inherits the class."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from chinwag_server.account.records import (
    ApiKeyRecord,
    BanRecord,
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
from chinwag_server.account.store import AccountStore, Conflict
from tests.server.account.clock import START_US

FRIEND, BY_ME = RelationState.FRIEND, RelationState.REQUESTED_BY_ME


async def put(store: AccountStore, user_id: str, *writes: Write) -> UserRecord:
    """Commits on top of what is stored; the user as it is then."""
    await store.commit(await store.user(user_id) or UserRecord(user_id), writes)
    found = await store.user(user_id)
    assert found is not None
    return found


def request(partition: str, request_id: str, response: bytes = b"answer") -> RequestRecord:
    return RequestRecord(partition, "caller", request_id, START_US, b"hash", response)


def api_key(
    key_id: str, create_us: int, expire_time_us: int = 0, revoked_time_us: int = 0
) -> ApiKeyRecord:
    return ApiKeyRecord(
        key_id,
        "bot",
        ("a:read", "b:write"),
        b"h" * 32,
        START_US + create_us,
        expire_time_us,
        revoked_time_us=revoked_time_us,
    )


class StoreContract:
    # --- users ---

    async def test_a_user_comes_back_whole(self, store: AccountStore) -> None:
        user = UserRecord(
            "ann",
            username="ann",
            password_hash="$argon2id$",
            profile=b"profile\0",
            privacy=b"privacy",
            create_time_us=START_US,
            update_time_us=START_US + 1,
            ban=BanRecord(START_US, "spam", START_US + 5, "key"),
            event_id=7,
            status=b"busy\0",
            status_time_us=START_US + 2,
        )
        await store.commit(user)
        found = await store.user("ann")
        assert found == dataclasses.replace(user, version=1)
        assert found is not None
        await store.commit(dataclasses.replace(found, ban=None, deleted=True))
        found = await store.user("ann")
        assert found == dataclasses.replace(user, version=2, ban=None, deleted=True)

    async def test_who_is_not_there_is_not_found(self, store: AccountStore) -> None:
        await put(store, "ann")
        assert await store.user("bob") is None
        assert set(await store.users(["ann", "bob"])) == {"ann"}
        assert await store.users([]) == {}

    async def test_many_users_at_once(self, store: AccountStore) -> None:
        ids = [f"u{number}" for number in range(1200)]
        await asyncio.gather(*(store.commit(UserRecord(user_id)) for user_id in ids))
        assert set(await store.users([*ids, "nobody"])) == set(ids)

    async def test_live_sessions(self, store: AccountStore) -> None:
        live = SessionRecord("ann", "phone", expire_time_us=START_US + 10)
        ended = dataclasses.replace(live, device_id="old", ended_time_us=START_US - 1)
        over = dataclasses.replace(live, device_id="lost", expire_time_us=START_US)
        await put(store, "ann", live, ended, over)
        await put(store, "bob", dataclasses.replace(live, user_id="bob", device_id="desk"))
        asked = {("ann", "phone"), ("ann", "old"), ("ann", "lost"), ("bob", "desk")}
        asked |= {("bob", "phone"), ("cid", "phone"), ("\0", "\0")}
        asked |= {(f"u{number}", "phone") for number in range(600)}
        expected = {("ann", "phone"), ("bob", "desk")}
        assert await store.live_sessions(asked, START_US) == expected
        assert await store.live_sessions([], START_US) == set()

    async def test_what_may_be_old_is_right_for_who_wrote_it(self, store: AccountStore) -> None:
        friend = RelationRecord("ann", "bob", FRIEND, 1, START_US)
        user = await put(store, "ann", friend)
        store.changed_elsewhere("ann")
        assert await store.users(["ann"], may_be_old=True) == {"ann": user}
        assert await store.relations("ann", [FRIEND], None, 9, may_be_old=True) == [friend]

    async def test_a_stale_commit_stores_nothing(self, store: AccountStore) -> None:
        stale = UserRecord("ann")
        await store.commit(stale)
        with pytest.raises(Conflict):
            await store.commit(stale, [BlockRecord("ann", "bob", START_US)])
        with pytest.raises(Conflict):
            await store.commit(UserRecord("cid", version=3))
        assert await store.block("ann", "bob") is None
        assert await store.user("cid") is None

    async def test_of_two_at_once_one_wins(self, store: AccountStore) -> None:
        user = await put(store, "ann")
        blocks = [BlockRecord("ann", f"u{number}", START_US) for number in range(8)]
        outcomes = await asyncio.gather(
            *(store.commit(user, [block]) for block in blocks), return_exceptions=True
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
        assert await store.count_blocks("ann") == 1

    async def test_a_conflict_harms_no_other_commit(self, store: AccountStore) -> None:
        await put(store, "ann")
        users = [UserRecord("ann"), *(UserRecord(f"u{number}") for number in range(20))]
        outcomes = await asyncio.gather(
            *(store.commit(user) for user in users), return_exceptions=True
        )
        assert isinstance(outcomes[0], Conflict)
        assert outcomes[1:] == [None] * 20

    # --- sessions ---

    async def test_sessions(self, store: AccountStore) -> None:
        first = SessionRecord(
            "ann",
            "d1",
            info=b"info",
            salt=b"salt",
            refresh_count=3,
            refreshable=True,
            create_time_us=START_US,
            active_time_us=START_US,
            address="::1",
            token_time_us=START_US,
            expire_time_us=START_US + 10,
            acked_event_id=5,
        )
        second = SessionRecord("ann", "d2", create_time_us=START_US + 1, expire_time_us=1 << 60)
        ended = SessionRecord("ann", "d3", ended_time_us=START_US, end_reason=2)
        await put(store, "ann", first, second, ended)
        await put(store, "bob", SessionRecord("bob", "d1", expire_time_us=1 << 60))
        assert await store.session("ann", "d1") == first
        assert await store.session("ann", "d3") == ended
        assert await store.session("bob", "d2") is None
        assert await store.sessions("ann") == [second, first]
        assert await store.expired_sessions(START_US + 9, 10) == []
        assert await store.expired_sessions(START_US + 10, 10) == [first]
        await put(store, "ann", dataclasses.replace(first, ended_time_us=START_US + 11))
        assert await store.sessions("ann") == [second]
        assert await store.expired_sessions(START_US + 20, 10) == []

    # --- relations and blocks ---

    async def test_relations_by_page(self, store: AccountStore) -> None:
        rows = [
            RelationRecord("ann", f"u{number}", FRIEND, 1, START_US + number // 2)
            for number in range(5)
        ]
        asked = RelationRecord("ann", "v", BY_ME, 2, START_US + 9, "hello")
        gone = RelationRecord("ann", "w", RelationState.NONE, 3, START_US + 9)
        await put(store, "ann", *rows, asked, gone)
        await put(store, "bob", RelationRecord("bob", "ann", FRIEND, 1, START_US))
        assert await store.relation("ann", "v") == asked
        assert await store.relation("v", "ann") == RelationRecord("v", "ann")
        assert (await store.relation("ann", "w")).revision == 3
        page = await store.relations("ann", [FRIEND], None, 2)
        assert [row.other_id for row in page] == ["u4", "u3"]
        page = await store.relations("ann", [FRIEND], (page[-1].time_us, "u3"), 9)
        assert [row.other_id for row in page] == ["u2", "u1", "u0"]
        assert await store.relations("ann", [FRIEND, BY_ME], None, 1) == [asked]
        assert await store.count_relations("ann", [FRIEND]) == 5
        assert await store.count_relations("ann", [FRIEND, BY_ME]) == 6
        assert await store.count_relations("cid", [FRIEND]) == 0

    async def test_blocks_by_page(self, store: AccountStore) -> None:
        rows = [BlockRecord("ann", f"u{number}", START_US + number // 2) for number in range(4)]
        await put(store, "ann", *rows)
        assert await store.block("ann", "u1") == rows[1]
        assert await store.block("u1", "ann") is None
        page = await store.blocks("ann", None, 3)
        assert page == [rows[3], rows[2], rows[1]]
        assert await store.blocks("ann", (rows[1].time_us, "u1"), 3) == [rows[0]]
        await put(store, "ann", DeleteBlock("ann", "u1"), DeleteBlock("ann", "nobody"))
        assert await store.block("ann", "u1") is None
        assert await store.count_blocks("ann") == 3

    async def test_bans_by_page(self, store: AccountStore) -> None:
        for number, until in enumerate((0, START_US + 5, START_US + 50)):
            ban = BanRecord(START_US + number, "why", until, "key")
            await store.commit(UserRecord(f"u{number}", ban=ban))
        await store.commit(UserRecord("good"))
        found = await store.bans(START_US + 4, None, 10)
        assert [user.user_id for user in found] == ["u2", "u1", "u0"]
        found = await store.bans(START_US + 5, None, 10)
        assert [user.user_id for user in found] == ["u2", "u0"]
        found = await store.bans(START_US + 5, (START_US + 2, "u2"), 10)
        assert [user.user_id for user in found] == ["u0"]

    # --- events ---

    async def test_events(self, store: AccountStore) -> None:
        rows = [EventRecord("ann", number, START_US, b"%d" % number) for number in range(1, 6)]
        await put(store, "ann", *rows)
        await put(store, "bob", EventRecord("bob", 1, START_US, b"bob"))
        assert await store.events("ann", 0, 3) == rows[:3]
        assert await store.events("ann", 3, 3) == rows[3:]
        assert await store.events("ann", 5, 3) == []
        await put(store, "ann", TrimEvents("ann", 2))
        assert await store.events("ann", 0, 9) == rows[2:]
        assert len(await store.events("bob", 0, 9)) == 1

    # --- answers ---

    async def test_answers(self, store: AccountStore) -> None:
        await put(store, "ann", request("ann", "r"))
        assert await store.request("ann", "caller", "r") == request("ann", "r")
        assert await store.request("ann", "other", "r") is None
        assert await store.request("bob", "caller", "r") is None
        await store.put_request(request("key:k", "r"))
        await store.put_request(request("key:k", "r", b"another"))
        found = await store.request("key:k", "caller", "r")
        assert found is not None
        assert found.response == b"answer"

    async def test_an_answer_is_stored_with_what_it_tells_of_or_not_at_all(
        self, store: AccountStore
    ) -> None:
        user = await put(store, "ann")
        await put(store, "ann")
        with pytest.raises(Conflict):
            await store.commit(user, [request("ann", "r")])
        assert await store.request("ann", "caller", "r") is None

    # --- chores ---

    async def test_chores(self, store: AccountStore) -> None:
        first = ChoreRecord("ann", "mirror", "bob", 1, START_US + 10)
        second = ChoreRecord("ann", "mirror", "cid", 1, START_US + 20)
        await put(store, "ann", first, second)
        assert await store.chores(START_US + 9, 10) == []
        assert await store.chores(START_US + 10, 10) == [first]
        await store.put_off_chore(first, START_US + 30)
        assert await store.chores(START_US + 20, 10) == [second]
        await store.finish_chore(second)
        assert [chore.target for chore in await store.chores(START_US + 99, 10)] == ["bob"]

    async def test_a_chore_that_was_noted_again_is_not_done(self, store: AccountStore) -> None:
        first = ChoreRecord("ann", "mirror", "bob", 1, START_US)
        await put(store, "ann", first)
        again = dataclasses.replace(first, revision=2)
        await put(store, "ann", again)
        await store.finish_chore(first)
        await store.put_off_chore(first, START_US + 99)
        assert await store.chores(START_US, 10) == [again]
        await store.finish_chore(again)
        await store.finish_chore(again)
        assert await store.chores(START_US, 10) == []

    async def test_a_gone_user_leaves_no_rows(self, store: AccountStore) -> None:
        writes: Sequence[Write] = [
            SessionRecord("ann", "d", ended_time_us=START_US),
            RelationRecord("ann", "bob", FRIEND, 1, START_US),
            BlockRecord("ann", "cid", START_US),
            EventRecord("ann", 1, START_US, b""),
            request("ann", "r"),
        ]
        await put(store, "ann", *writes)
        await put(store, "bob", BlockRecord("bob", "ann", START_US))
        await put(store, "ann", EraseRows("ann"))
        assert await store.count_blocks("ann") == 0
        assert (await store.relation("ann", "bob")).revision == 0
        assert await store.events("ann", 0, 9) == []
        assert await store.request("ann", "caller", "r") is None
        # Its tokens are still to be told apart from forged ones; and others keep what is theirs.
        assert await store.session("ann", "d") is not None
        assert await store.count_blocks("bob") == 1

    # --- names ---

    async def test_names_change_only_from_what_is_expected(self, store: AccountStore) -> None:
        mine = NameRecord("ann", "u1", confirmed=False, time_us=START_US)
        theirs = dataclasses.replace(mine, user_id="u2")
        assert await store.name("ann") is None
        assert await store.put_name(mine, None)
        assert not await store.put_name(theirs, None)
        assert await store.name("ann") == mine
        assert await store.unconfirmed_names(START_US, 10) == []
        assert await store.unconfirmed_names(START_US + 1, 10) == [mine]
        confirmed = dataclasses.replace(mine, confirmed=True)
        assert not await store.put_name(confirmed, theirs)
        assert await store.put_name(confirmed, mine)
        assert await store.unconfirmed_names(START_US + 1, 10) == []
        assert not await store.delete_name(mine)
        assert await store.delete_name(confirmed)
        assert await store.name("ann") is None

    async def test_of_many_who_take_a_name_one_gets_it(self, store: AccountStore) -> None:
        names = [NameRecord("ann", f"u{n}", confirmed=False, time_us=START_US) for n in range(10)]
        got = await asyncio.gather(*(store.put_name(name, None) for name in names))
        assert sum(got) == 1
        assert await store.name("ann") == names[got.index(True)]

    # --- keys ---

    async def test_api_keys(self, store: AccountStore) -> None:
        live = api_key("k1", 1)
        ending = api_key("k2", 1, expire_time_us=START_US + 10)
        revoked = api_key("k3", 2, revoked_time_us=START_US + 3)
        for key in (live, ending, revoked):
            await store.put_api_key(key)
        assert await store.api_key("k2") == ending
        assert await store.api_key("k4") is None
        assert await store.api_keys(START_US + 9, None, 10) == [ending, live]
        assert await store.api_keys(START_US + 9, (ending.create_time_us, "k2"), 10) == [live]
        assert await store.api_keys(START_US + 10, None, 10) == [live]
        assert await store.count_api_keys(START_US + 9) == 2
        used = dataclasses.replace(live, used_time_us=START_US + 4)
        await store.put_api_key(used, request("key:k0", "r"))
        assert await store.api_key("k1") == used
        assert await store.request("key:k0", "caller", "r") is not None

    async def test_signing_keys(self, store: AccountStore) -> None:
        old = SigningKeyRecord("a", b"1" * 32, START_US)
        new = SigningKeyRecord("b", b"2" * 32, START_US + 1)
        await store.put_signing_key(old)
        await store.put_signing_key(new)
        assert await store.signing_keys() == [new, old]
        await store.delete_signing_key("a")
        assert await store.signing_keys() == [new]

    async def test_the_first_secret_stays(self, store: AccountStore) -> None:
        first = await store.secret("refresh", b"first")
        assert first == b"first"
        assert await store.secret("refresh", b"second") == b"first"
        assert await store.secret("other", b"second") == b"second"

    # --- expiry ---

    async def test_what_is_old_goes(self, store: AccountStore) -> None:
        new_us = START_US + 100
        old: Sequence[Write] = [
            SessionRecord("ann", "old", ended_time_us=START_US),
            RelationRecord("ann", "old", RelationState.NONE, 1, START_US),
            EventRecord("ann", 1, START_US, b""),
            request("ann", "old"),
        ]
        kept: Sequence[Write] = [
            SessionRecord("ann", "live", create_time_us=START_US, expire_time_us=START_US),
            SessionRecord("ann", "new", ended_time_us=new_us),
            RelationRecord("ann", "friend", FRIEND, 1, START_US),
            RelationRecord("ann", "new", RelationState.NONE, 1, new_us),
            EventRecord("ann", 2, new_us, b""),
            dataclasses.replace(request("ann", "new"), time_us=new_us),
        ]
        await put(store, "ann", *old, *kept)
        await store.put_api_key(api_key("old", 0, revoked_time_us=START_US))
        await store.put_api_key(api_key("ended", 0, expire_time_us=START_US))
        await store.put_api_key(api_key("live", 0))
        expired = await store.expire(before_us=new_us, events_before_us=new_us, limit=100)
        assert expired == 6
        assert await store.expire(before_us=new_us, events_before_us=new_us, limit=100) == 0
        for device_id in ("live", "new"):
            assert await store.session("ann", device_id) is not None
        assert await store.session("ann", "old") is None
        assert (await store.relation("ann", "old")).revision == 0
        assert (await store.relation("ann", "friend")).revision == 1
        assert (await store.relation("ann", "new")).revision == 1
        assert [event.id for event in await store.events("ann", 0, 9)] == [2]
        assert await store.request("ann", "caller", "old") is None
        assert await store.request("ann", "caller", "new") is not None
        assert [key.key_id for key in await store.api_keys(new_us, None, 9)] == ["live"]
        assert await store.api_key("old") is None

    async def test_expiry_is_bounded(self, store: AccountStore) -> None:
        await put(store, "ann", *(request("ann", f"r{number}") for number in range(10)))
        before_us = START_US + 1
        assert await store.expire(before_us=before_us, events_before_us=0, limit=6) == 6
        assert await store.expire(before_us=before_us, events_before_us=0, limit=6) == 4
