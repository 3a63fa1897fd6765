"""How a database comes to have the store's tables, and which store it is."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass

from chinwag_server.account.postgres import tables
from chinwag_server.account.postgres.driver import Connection
from chinwag_server.chat.store import StoreRefused

# Migration n brings a database from schema_version n to n + 1, in a transaction of its own. Never
# change one that was released.
MIGRATIONS: tuple[str, ...] = (
    tables.script(),
    # A default that is no expression: no row is written anew. Nodes of the version before, which
    # name their columns, go on.
    """
    ALTER TABLE users
        ADD COLUMN status BYTEA NOT NULL DEFAULT '',  -- chinwag.presence.v1.UserStatus
        ADD COLUMN status_time_us BIGINT NOT NULL DEFAULT 0
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)

MIN_SERVER = 130_000  # as server_version_num has it
MIGRATION_S = 60.0

# Of pg_advisory_xact_lock, which all chinwags of a database take: "chinwag" in ASCII.
_LOCK = int.from_bytes(b"chinwag", "big")

_FIRST = """
CREATE TABLE chinwag (
    one_row BOOLEAN PRIMARY KEY CHECK (one_row),
    schema_version INTEGER NOT NULL,
    cluster_id TEXT NOT NULL,
    generation BIGINT NOT NULL
)
"""


@dataclass(slots=True, frozen=True)
class Identity:
    """Which store a database holds.

    Attributes:
        cluster_id: Of the mesh that it belongs to.
        generation: Another one after it was made from a backup; positive.
    """

    cluster_id: str
    generation: int


@dataclass(slots=True, frozen=True)
class Migration:
    """What came of bringing a database to `SCHEMA_VERSION`.

    Attributes:
        from_version: Where this call found it; 0: there was nothing. `SCHEMA_VERSION`: nothing was
            to do, or another did it meanwhile.
    """

    identity: Identity
    from_version: int


async def identity(connection: Connection) -> Identity | None:
    """Of the store in a database; None: there is none in it."""
    if not await _has(connection, "chinwag"):
        return None
    row = await connection.fetchrow("SELECT cluster_id, generation FROM chinwag")
    return Identity(*row) if row else None


async def migrate(connection: Connection, name: str, cluster_id: str = "") -> Migration:
    """Brings a database to the newest schema. Several nodes may do so at once.

    Args:
        name: What messages call the database.
        cluster_id: What a new store gets, and an old one must have; empty: drawn, any.

    Raises:
        StoreRefused: It is not ours, of another cluster, of a newer program, or too old a server.
    """
    await _check_server(connection, name)
    # One node makes the tables, the others wait here: longer than any statement should last.
    await connection.execute(f"SET statement_timeout = {int(MIGRATION_S * 1000)}")
    await connection.execute(f"SET lock_timeout = {int(MIGRATION_S * 1000)}")
    from_version: int | None = None
    while True:
        await connection.execute("BEGIN")
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        found, version = await _begin(connection, name, cluster_id)
        from_version = version if from_version is None else from_version
        if version < SCHEMA_VERSION:
            await connection.execute(MIGRATIONS[version])
            await connection.execute("UPDATE chinwag SET schema_version = $1", version + 1)
        await connection.execute("COMMIT")
        if version + 1 >= SCHEMA_VERSION:
            return Migration(found, from_version)


async def _begin(connection: Connection, name: str, cluster_id: str) -> tuple[Identity, int]:
    """Checks what is there, in a transaction that has the lock."""
    if not await _has(connection, "chinwag"):
        if await _has(connection, "users"):
            raise StoreRefused(
                f"{name} holds tables of another program, among them `users`: name an empty "
                "database"
            )
        await connection.execute(_FIRST)
        await connection.execute(
            "INSERT INTO chinwag VALUES (TRUE, 0, $1, $2)",
            cluster_id or str(uuid.uuid4()),
            secrets.randbelow(2**63 - 1) + 1,
        )
    row = await connection.fetchrow("SELECT cluster_id, generation, schema_version FROM chinwag")
    assert row is not None
    found, version = Identity(row[0], row[1]), int(row[2])
    if cluster_id and found.cluster_id != cluster_id:
        raise StoreRefused(
            f"{name} belongs to cluster {found.cluster_id!r}, this node to {cluster_id!r}: name "
            "the database of this cluster"
        )
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"{name} has schema {version}, this program knows up to {SCHEMA_VERSION}: it was "
            "written by a newer chinwag; run that one, or restore a backup made before the upgrade"
        )
    return found, version


async def _check_server(connection: Connection, name: str) -> None:
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), "
        "current_setting('synchronous_commit'), current_setting('fsync')"
    )
    assert row is not None
    version, encoding, commit, fsync = row
    if version < MIN_SERVER:
        raise StoreRefused(
            f"{name} runs PostgreSQL {version // 10_000}, chinwag needs {MIN_SERVER // 10_000} or "
            "newer: upgrade the server"
        )
    if encoding != "UTF8":
        raise StoreRefused(
            f"{name} is encoded in {encoding}, chinwag needs UTF8: make the database with "
            "createdb --encoding=UTF8 --template=template0"
        )
    # What is acked has to survive a crash of the server.
    for setting, value in (("synchronous_commit", commit), ("fsync", fsync)):
        if value == "off":
            raise StoreRefused(
                f"{name} has {setting} = off, so a crash would lose what was acknowledged: set "
                "it to on"
            )


async def _has(connection: Connection, table: str) -> bool:
    row = await connection.fetchrow("SELECT to_regclass($1) IS NOT NULL", table)
    return bool(row and row[0])
