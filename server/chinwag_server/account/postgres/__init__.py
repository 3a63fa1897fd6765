"""The account store in PostgreSQL."""

from chinwag_server.account.postgres.server import PostgresSettings
from chinwag_server.account.postgres.store import PostgresAccountStore

__all__ = ["PostgresAccountStore", "PostgresSettings"]
