"""Brings a database to the newest schema, over a connection of its own."""

from __future__ import annotations

import asyncio

from chinwag_server.account.postgres import address, driver, errors, schema
from chinwag_server.account.postgres.server import PostgresSettings, session_settings
from chinwag_server.account.store import StoreError
from chinwag_server.chat.store import StoreRefused


async def migrate(
    url: str, *, cluster_id: str = "", settings: PostgresSettings | None = None
) -> schema.Migration:
    """Makes the tables, or what they lack. Several nodes may do so at once: one does, the others
    wait.

    Args:
        cluster_id: What a new store gets, and an old one must have; empty: drawn, any.

    Raises:
        StoreRefused: The server does not let us in, or the database is not for us.
        StoreError: It cannot be reached or used; both texts say what to do.
    """
    settings = settings or PostgresSettings()
    name = address.shown(url)
    try:
        connection = await driver.connect(
            url,
            timeout=settings.connect_s,
            settings=session_settings(settings),
            attributes="read-write",
        )
        try:
            async with asyncio.timeout(schema.MIGRATION_S):
                return await schema.migrate(connection, name, cluster_id)
        finally:
            connection.terminate()
    except (*driver.FAILURES, *driver.BAD_URL) as error:
        if errors.is_defect(error) and not isinstance(error, driver.BAD_URL):
            raise
        kind = StoreRefused if errors.is_refusal(error) else StoreError
        raise kind(
            f"{name} cannot be used: {errors.described(error)}; {errors.advice(error)}"
        ) from error
