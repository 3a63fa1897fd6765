"""Accounts in DIR/account.db: the embedded adapter of the account store."""

from chinwag_server.account.sqlite.store import SqliteAccountStore

__all__ = ["SqliteAccountStore"]
