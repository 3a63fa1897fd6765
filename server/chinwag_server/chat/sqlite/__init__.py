"""The chat store in one SQLite file, DIR/chat.db: the embedded default.

One thread writes (`writer`), many submissions a transaction; reads see the newest commit
through connections of their own (`reads`). Nothing outside of this folder knows of SQL.
"""

from chinwag_server.chat.sqlite.store import SqliteChatStore

__all__ = ["SqliteChatStore"]
