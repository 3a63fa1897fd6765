"""API keys: their rights, their end, and that their secrets are kept nowhere."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from chinwag.account.v1 import account_service_pb2
from chinwag_server.account.bootstrap import create_api_key
from chinwag_server.account.sqlite import SqliteAccountStore
from chinwag_server.chat.store import StoreError
from chinwag_server.datadir import DataDir
from chinwag_server.rpc.errors import Refusal
from tests.server.account.conftest import StartRules
from tests.server.account.rules import Rules, refused

# Requests are made of dictionaries, which the stubs do not know.
pb: Any = account_service_pb2


def create(*scopes: str, request_id: str = "", **fields: object) -> Any:
    return pb.CreateApiKeyRequest(
        name="bot",
        scopes=scopes,
        request_id=request_id,
        **fields,
    )


async def test_a_key_makes_another(rules: Rules) -> None:
    answer = await rules.backend("CreateApiKey", create("users:read"))
    key, secret = answer.api_key, answer.secret
    assert secret.startswith(f"cwk_{key.id}_")
    assert key.creator_key_id in rules.secret
    await rules.call("GetUsers", pb.GetUsersRequest(user_ids=["x"]), token=secret)
    listed = (await rules.backend("ListApiKeys")).api_keys
    assert key.id in [one.id for one in listed]
    assert secret not in str(listed)
    record = await rules.store.api_key(key.id)
    assert record is not None
    assert secret.rpartition("_")[2] not in repr(record)
    assert record.used_time_us == rules.clock.time_us()


async def test_no_more_than_the_calling_key(rules: Rules) -> None:
    ends_us = rules.clock.time_us() + 1_000_000_000
    secret = await rules.api_key("keys:write", "users:read", expire_time_us=ends_us)

    async def outcome(request: Any) -> str:
        return await refused(rules.call("CreateApiKey", request, token=secret))

    assert await outcome(create("users:write")) == "SCOPE_REQUIRED"
    assert await outcome(create("no:such")) == "INVALID_FIELD"
    assert await outcome(create()) == "INVALID_FIELD"
    assert await outcome(create("users:read", "users:read")) == "INVALID_FIELD"
    later = {"seconds": ends_us // 1_000_000 + 1}
    assert await outcome(create("users:read", expire_time=later)) == "INVALID_FIELD"
    assert await outcome(create("users:read", expire_time={"seconds": 1})) == "INVALID_FIELD"
    answer = await rules.call("CreateApiKey", create("users:read"), token=secret)
    assert answer.api_key.expire_time.ToMicroseconds() == ends_us
    rules.clock.advance(1001)
    assert await outcome(create("users:read")) == "TOKEN_EXPIRED"


async def test_a_repeat_has_no_secret(rules: Rules) -> None:
    first = await rules.backend("CreateApiKey", create("users:read", request_id="k1"))
    again = await rules.backend("CreateApiKey", create("users:read", request_id="k1"))
    assert again.api_key == first.api_key
    assert first.secret
    assert not again.secret
    request = create("users:write", request_id="k1")
    assert await refused(rules.backend("CreateApiKey", request)) == "ID_REUSED"


async def test_bad_keys(rules: Rules) -> None:
    good = await rules.api_key("users:read")
    _, key_id, secret = good.split("_", 2)
    for bad in (
        "cwk_",
        "cwk__",
        f"cwk_{key_id}",
        f"cwk_{key_id}_",
        f"cwk_{key_id}_{secret[:-1]}",
        f"cwk_{key_id}_{secret}x",
        f"cwk_other_{secret}",
        f"cwk_{'x' * 5000}_{secret}",
    ):
        assert await refused(rules.call("ListBans", token=bad)) == "TOKEN_INVALID", bad


async def test_revoking(rules: Rules) -> None:
    made = await rules.backend("CreateApiKey", create("keys:write", "users:read"))
    get = pb.GetUsersRequest(user_ids=["x"])
    await rules.call("GetUsers", get, token=made.secret)
    child = await rules.call("CreateApiKey", create("users:read"), token=made.secret)
    revoke = pb.RevokeApiKeyRequest(api_key_id=made.api_key.id)
    for _ in range(2):
        await rules.backend("RevokeApiKey", revoke)
    assert await refused(rules.call("GetUsers", get, token=made.secret)) == "SESSION_REVOKED"
    assert set(rules.chat.revoked_keys) == {made.api_key.id}
    # Keys that it made stay.
    await rules.call("GetUsers", get, token=child.secret)
    assert made.api_key.id not in [key.id for key in (await rules.backend("ListApiKeys")).api_keys]
    nobody = pb.RevokeApiKeyRequest(api_key_id="none")
    assert await refused(rules.backend("RevokeApiKey", nobody)) == "API_KEY_NOT_FOUND"
    # Only keys whose scopes the calling one has; itself is one of them.
    weak = await rules.api_key("keys:write")
    stronger = pb.RevokeApiKeyRequest(api_key_id=child.api_key.id)
    assert await refused(rules.call("RevokeApiKey", stronger, token=weak)) == "SCOPE_REQUIRED"
    itself = pb.RevokeApiKeyRequest(api_key_id=weak.split("_")[1])
    await rules.call("RevokeApiKey", itself, token=weak)
    assert await refused(rules.call("ListApiKeys", token=weak)) == "SESSION_REVOKED"


async def test_use_is_noted_by_the_hour(rules: Rules) -> None:
    secret = await rules.api_key("users:read")
    get = pb.GetUsersRequest(user_ids=["x"])

    async def used_us() -> int:
        record = await rules.store.api_key(secret.split("_")[1])
        assert record is not None
        return record.used_time_us

    await rules.call("GetUsers", get, token=secret)
    first = await used_us()
    rules.clock.advance(60)
    await rules.call("GetUsers", get, token=secret)
    assert await used_us() in (first, first + 60_000_000)
    rules.clock.advance(3600)
    await rules.call("GetUsers", get, token=secret)
    assert await used_us() > first + 3_000_000_000


async def test_a_limit(start_rules: StartRules) -> None:
    rules = await start_rules(limits__api_keys=3)
    made = [await rules.backend("CreateApiKey", create("users:read")) for _ in range(2)]
    call = rules.backend("CreateApiKey", create("users:read"))
    assert await refused(call) == "API_KEY_LIMIT"
    await rules.backend("RevokeApiKey", pb.RevokeApiKeyRequest(api_key_id=made[0].api_key.id))
    await rules.backend("CreateApiKey", create("users:read"))


async def test_keys_in_pages(rules: Rules) -> None:
    await rules.backend("ListApiKeys")
    made = []
    for _ in range(3):
        rules.clock.advance(1)
        made.append((await rules.backend("CreateApiKey", create("users:read"))).api_key.id)
    first = await rules.backend("ListApiKeys", pb.ListApiKeysRequest(page_size=2))
    rest = await rules.backend(
        "ListApiKeys", pb.ListApiKeysRequest(page_token=first.next_page_token)
    )
    ids = [key.id for key in (*first.api_keys, *rest.api_keys)]
    assert ids[:3] == made[::-1]
    assert len(ids) == 4


async def test_a_key_made_beside_the_store(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    key_id, secret = create_api_key(directory, "first", ["keys:write"])
    data_dir = DataDir(directory)
    data_dir.open()
    store = SqliteAccountStore(data_dir)
    await store.open()
    record = await store.api_key(key_id)
    assert record is not None
    assert (record.name, record.scopes) == ("first", ("keys:write",))
    # And while a node runs.
    second, _ = create_api_key(directory, "second", ["users:read"], 99)
    record = await store.api_key(second)
    assert record is not None
    assert record.expire_time_us == 99
    await store.close()
    data_dir.close()
    everything = b"".join(path.read_bytes() for path in directory.iterdir())
    assert secret.rpartition("_")[2].encode() not in everything
    with pytest.raises(Refusal):
        create_api_key(directory, "x", ["no:such"])


def test_a_file_that_is_not_ours(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "account.db")
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="not a chinwag account store"):
        create_api_key(tmp_path, "x", ["users:read"])
