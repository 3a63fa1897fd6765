"""Making an API key beside the store: the first one of a deployment. Works while a node runs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from chinwag_server.account import ids
from chinwag_server.account.apikeys import check_scopes
from chinwag_server.account.records import ApiKeyRecord
from chinwag_server.account.sqlite import rows
from chinwag_server.account.sqlite.schema import FILE_NAME, migrate, open_writer
from chinwag_server.account.store import AccountStore


def create_api_key(
    directory: Path, name: str, scopes: Sequence[str], expire_time_us: int = 0
) -> tuple[str, str]:
    """Makes an API key in a data directory. Blocks.

    Args:
        expire_time_us: When it ends; 0: never.

    Returns:
        (id, secret). The secret is not kept.

    Raises:
        StoreError: The store cannot be opened.
        Refusal: INVALID_FIELD, for a scope that there is not.
        sqlite3.Error, OSError: It cannot be written.
    """
    record, secret = _new_key(name, scopes, expire_time_us)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / FILE_NAME
    with closing(open_writer(path)) as connection:
        path.chmod(0o600)
        migrate(connection, path)
        rows.put_api_key(connection, record)
    return record.key_id, secret


async def create_shared_api_key(
    store: AccountStore, name: str, scopes: Sequence[str], expire_time_us: int = 0
) -> tuple[str, str]:
    """The same in an open store, which nodes share.

    Raises:
        StoreUnavailable: It cannot be written now.
        Refusal: INVALID_FIELD, for a scope that there is not.
    """
    record, secret = _new_key(name, scopes, expire_time_us)
    await store.put_api_key(record)
    return record.key_id, secret


def _new_key(name: str, scopes: Sequence[str], expire_time_us: int) -> tuple[ApiKeyRecord, str]:
    """What is stored of a key, and its secret."""
    check_scopes(scopes)
    key_id, secret = ids.new_api_key(secrets.token_bytes)
    record = ApiKeyRecord(
        key_id,
        name,
        tuple(dict.fromkeys(scopes)),
        ids.secret_hash(secret),
        time.time_ns() // 1000,
        expire_time_us,
    )
    return record, secret
