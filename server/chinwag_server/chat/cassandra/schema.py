"""The keyspace: declared tables in CQL, and what a node makes sure of before it uses them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from cassandra.query import SimpleStatement

from chinwag_server.chat.cassandra.address import Address
from chinwag_server.chat.cassandra.statements import name_of
from chinwag_server.chat.sequenced.tables import Table
from chinwag_server.chat.store import StoreError, StoreRefused

# ruff: noqa: S608 - statements are put together from declared names

# Raise it with every change of a declared table. Tables and cells may be added; a name that was
# taken away never comes back with another meaning: Cassandra hides old cells by wall-clock time.
VERSION = 2

TYPES: Mapping[type, str] = {int: "bigint", str: "text", bytes: "blob", bool: "boolean"}

# When a node that reads for us asks another copy: one that died is still asked for ten seconds.
# Of a table that nobody has read yet Cassandra's own rule makes it 2.5 s.
SECOND_COPY = "100ms"

# What the keyspace is besides the declared tables.
FACTS = "store_facts"
MIGRATIONS = "store_migrations"
EPOCHS = "shard_epochs"
CLUSTER_ID = "cluster_id"
STORE = "chat"

_OWN = {
    FACTS: "name text PRIMARY KEY, value text",
    # One partition: a scan of the ring would wait for a node that has just died.
    MIGRATIONS: "store text, version bigint, time_us bigint, PRIMARY KEY (store, version)",
    EPOCHS: "shard bigint PRIMARY KEY, epoch bigint, nonce blob",
}


def create_keyspace(address: Address) -> str:
    """The keyspace with its copies."""
    return (
        f'CREATE KEYSPACE IF NOT EXISTS "{address.keyspace}" WITH replication = '
        f"{{'class': 'NetworkTopologyStrategy', '{address.datacenter}': {address.replicas}}}"
    )


def create_own(address: Address, name: str) -> str:
    """One of our own tables. Its id is always the same: two nodes that make it at the same time
    make the same table, and not two of one name."""
    table_id = uuid.uuid5(uuid.NAMESPACE_URL, f"chinwag/{address.keyspace}/{name}")
    return (
        f'CREATE TABLE IF NOT EXISTS "{address.keyspace}".{name} ({_OWN[name]}) '
        f"WITH id = {table_id} AND speculative_retry = '{SECOND_COPY}'"
    )


def create_table(keyspace: str, table: Table) -> str:
    """A declared table."""
    assert table.cells, f"{table.name}: a row without cells cannot be stored"
    columns = {**table.partition, **table.clustering, **table.cells}
    lines = ", ".join(f'"{name}" {TYPES[kind]}' for name, kind in columns.items())
    partition = ", ".join(f'"{name}"' for name in table.partition)
    key = ", ".join([f"({partition})", *(f'"{name}"' for name in table.clustering)])
    return (
        f"CREATE TABLE IF NOT EXISTS {name_of(keyspace, table)} ({lines}, PRIMARY KEY ({key})) "
        f"WITH default_time_to_live = {table.ttl_s} AND speculative_retry = '{SECOND_COPY}'"
    )


def add_cell(keyspace: str, table: Table, name: str) -> str:
    """A cell that an older table does not have."""
    return f'ALTER TABLE {name_of(keyspace, table)} ADD "{name}" {TYPES[table.cells[name]]}'


def set_ttl(keyspace: str, table: Table) -> str:
    """How long cells are kept that are written from now on."""
    return f"ALTER TABLE {name_of(keyspace, table)} WITH default_time_to_live = {table.ttl_s}"


def check(session: Any, address: Address, tables: Sequence[Table], cluster_id: str) -> None:
    """Makes sure that the keyspace is made for this program and this cluster; blocks.

    Raises:
        StoreError: It is not: the text says what to do.
    """
    missing = f"{address}: the keyspace is not made yet: run `chinwag migrate`"
    if MIGRATIONS not in stored_tables(session, address.keyspace):
        raise StoreError(missing)
    version = stored_version(session, address)
    if version == 0:
        raise StoreError(missing)
    check_version(address, version)
    if version < VERSION or changes(session, address.keyspace, tables):
        raise StoreError(
            f"{address}: the keyspace is of version {version}, this program of {VERSION}: "
            "run `chinwag migrate`"
        )
    check_cluster_id(address, fact(session, address, CLUSTER_ID), cluster_id)


def check_version(address: Address, stored: int) -> None:
    """Refuses a keyspace that a newer program made.

    Raises:
        StoreRefused: It is.
    """
    if stored > VERSION:
        raise StoreRefused(
            f"{address}: the keyspace is of version {stored}, this program knows {VERSION}: "
            "upgrade chinwag"
        )


def check_cluster_id(address: Address, stored: str, own: str) -> None:
    """Refuses a keyspace that belongs to others.

    Raises:
        StoreRefused: It does.
    """
    if stored != own:
        raise StoreRefused(
            f"{address}: the keyspace belongs to cluster {stored}, this is cluster {own}: give "
            "each its own keyspace"
        )


def changes(session: Any, keyspace: str, tables: Sequence[Table]) -> list[str]:
    """What makes the stored tables into the declared ones.

    Raises:
        StoreRefused: No statement does: a key or a type is another one.
    """
    found: list[str] = []
    stored = stored_tables(session, keyspace)
    for table in tables:
        if table.name not in stored:
            found.append(create_table(keyspace, table))
            continue
        columns = stored[table.name]
        for name, want in _columns(table).items():
            if name not in columns and name in table.cells:
                found.append(add_cell(keyspace, table, name))
            elif columns.get(name) != want:
                raise StoreRefused(
                    f"{keyspace}.{table.name}: {name} should be {' '.join(map(str, want))}, it is "
                    f"{' '.join(map(str, columns.get(name, ('missing',))))}: the keyspace was not "
                    "made by chinwag"
                )
        if _ttl(session, keyspace, table.name) != table.ttl_s:
            found.append(set_ttl(keyspace, table))
    return found


def stored_tables(session: Any, keyspace: str) -> dict[str, dict[str, tuple[str, str, int]]]:
    """Tables that are there: for each column its type, kind and position."""
    found: dict[str, dict[str, tuple[str, str, int]]] = {}
    rows = _ask(
        session,
        "SELECT table_name, column_name, type, kind, position FROM system_schema.columns "
        "WHERE keyspace_name = %s",
        keyspace,
    )
    for table, column, kind, role, position in rows:
        found.setdefault(table, {})[column] = (kind, role, position)
    return found


def stored_version(session: Any, address: Address) -> int:
    """The newest version the keyspace was brought to; 0: none."""
    row = _ask(
        session,
        f'SELECT version FROM "{address.keyspace}".{MIGRATIONS} WHERE store = %s '
        "ORDER BY version DESC LIMIT 1",
        STORE,
    ).one()
    return int(row[0]) if row else 0


def fact(session: Any, address: Address, name: str) -> str:
    """What is stored under a name; empty: nothing."""
    text = f'SELECT value FROM "{address.keyspace}".{FACTS} WHERE name = %s'
    row = _ask(session, text, name).one()
    return str(row[0]) if row and row[0] else ""


def _columns(table: Table) -> dict[str, tuple[str, str, int]]:
    found = {}
    for position, (name, kind) in enumerate(table.partition.items()):
        found[name] = (TYPES[kind], "partition_key", position)
    for position, (name, kind) in enumerate(table.clustering.items()):
        found[name] = (TYPES[kind], "clustering", position)
    for name, kind in table.cells.items():
        found[name] = (TYPES[kind], "regular", -1)
    return found


def _ttl(session: Any, keyspace: str, table: str) -> int:
    row = _ask(
        session,
        "SELECT default_time_to_live FROM system_schema.tables "
        "WHERE keyspace_name = %s AND table_name = %s",
        keyspace,
        table,
    ).one()
    return int(row[0]) if row else 0


def _ask(session: Any, text: str, *values: str) -> Any:
    """Reads; a second node is asked if the first one is silent."""
    return session.execute(SimpleStatement(text, is_idempotent=True), values)
