"""`chinwag migrate`: makes the keyspace, or brings an older one to this version. Several nodes may
do it at once: one does, the others wait."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any

from cassandra import InvalidRequest

from chinwag_server.chat.cassandra import schema
from chinwag_server.chat.cassandra.address import Address
from chinwag_server.chat.cassandra.bridge import connect
from chinwag_server.chat.sequenced.tables import Table
from chinwag_server.chat.store import StoreError

# ruff: noqa: S608 - statements are put together from declared names

log = logging.getLogger(__name__)

LOCK = "migrating"
# A node that dies with the lock holds it so long. Its statements may be repeated by the next.
LOCK_S = 60
WAIT_S = 180.0
POLL_S = 0.3
STATEMENT_S = 30.0


async def migrate(
    url: str,
    tables: Sequence[Table],
    *,
    cluster_id: str,
    replicas: int | None = None,
    datacenter: str | None = None,
) -> list[str]:
    """Makes the keyspace and its tables, or what they lack.

    Args:
        cluster_id: Whose it is from now on.
        replicas, datacenter: How many copies a new keyspace has, and where; default: as the URL
            says.

    Returns:
        The statements that were needed; empty: it was as it should be.

    Raises:
        StoreRefused: The cluster does not let us in, or the keyspace is not for us.
        StoreError: It cannot be done; both texts say what to do.
    """
    assert cluster_id, "a cluster has an id"
    address = Address.parse(url)
    address = dataclasses.replace(
        address,
        replicas=address.replicas if replicas is None else replicas,
        datacenter=datacenter or address.datacenter,
    )
    return await asyncio.to_thread(_migrate, address, tables, cluster_id)


def _migrate(address: Address, tables: Sequence[Table], cluster_id: str) -> list[str]:
    cluster, session = connect(address)
    try:
        work = _Migration(session, address)
        return work.run(tables, cluster_id)
    except StoreError:
        raise
    except Exception as error:  # The driver's errors have no common class
        raise StoreError(
            f"{address} cannot be migrated: {type(error).__name__}: {error}: it may be run again"
        ) from error
    finally:
        cluster.shutdown()


class _Migration:
    def __init__(self, session: Any, address: Address) -> None:
        self._session = session
        self._address = address
        self._facts = f'"{address.keyspace}".{schema.FACTS}'
        self._holder = secrets.token_hex(8)
        self._done: list[str] = []

    def run(self, tables: Sequence[Table], cluster_id: str) -> list[str]:
        address = self._address
        keyspace = address.keyspace
        # What the lock itself needs; statements that two nodes may run at the same time.
        known = self._session.execute(
            "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = %s",
            (keyspace,),
        )
        if not known.one():
            self._change(schema.create_keyspace(address))
        if schema.FACTS not in schema.stored_tables(self._session, keyspace):
            self._change(schema.create_own(address, schema.FACTS))
        self._lock()
        try:
            self._own(cluster_id)
            stored = schema.stored_tables(self._session, keyspace)
            for name in (schema.MIGRATIONS, schema.EPOCHS):
                if name not in stored:
                    self._change(schema.create_own(address, name))
            version = schema.stored_version(self._session, address)
            schema.check_version(address, version)
            for statement in schema.changes(self._session, keyspace, tables):
                self._change(statement)
            if version < schema.VERSION:
                self._session.execute(
                    f'INSERT INTO "{keyspace}".{schema.MIGRATIONS} (store, version, time_us) '
                    "VALUES (%s, %s, %s)",
                    (schema.STORE, schema.VERSION, time.time_ns() // 1000),
                )
        finally:
            self._unlock()
        return self._done

    def _change(self, statement: str) -> None:
        """Changes the schema and waits until all nodes that live have it."""
        log.info("cassandra: %s", statement)
        response = self._session.execute_async(statement, timeout=STATEMENT_S)
        response.result()
        if not response.is_schema_agreed:
            raise StoreError(
                f"{self._address}: the nodes do not agree on the schema: see `nodetool "
                "describecluster`, and run `chinwag migrate` again"
            )
        self._done.append(statement)

    def _own(self, cluster_id: str) -> None:
        """Makes the keyspace this cluster's, if it is nobody's."""
        applied, *row = self._once(
            f"INSERT INTO {self._facts} (name, value) VALUES (%s, %s) IF NOT EXISTS",
            schema.CLUSTER_ID,
            cluster_id,
        )
        if not applied:
            schema.check_cluster_id(self._address, row[-1], cluster_id)

    def _lock(self) -> None:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                applied, *row = self._once(
                    f"INSERT INTO {self._facts} (name, value) VALUES (%s, %s) IF NOT EXISTS "
                    f"USING TTL {LOCK_S}",
                    LOCK,
                    self._holder,
                )
            except InvalidRequest:
                # The table is just being made by another.
                applied, row = False, [""]
            # Ours: an answer was lost, and we asked again.
            if applied or row[-1] == self._holder:
                return
            if time.monotonic() > until:
                raise StoreError(f"{self._address}: another node migrates it since {WAIT_S:.0f} s")
            time.sleep(POLL_S)

    def _unlock(self) -> None:
        self._once(f"DELETE FROM {self._facts} WHERE name = %s IF value = %s", LOCK, self._holder)

    def _once(self, statement: str, *values: str) -> tuple[Any, ...]:
        """Runs a conditional statement; the row that says what came of it."""
        return tuple(self._session.execute(statement, values, timeout=STATEMENT_S).one())
