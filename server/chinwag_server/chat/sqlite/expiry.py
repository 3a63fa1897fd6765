"""Forgetting idempotency rows whose time is over."""

from __future__ import annotations

import sqlite3


def expire(connection: sqlite3.Connection, before_us: int, limit: int) -> int:
    """Deletes at most `limit` rows of sends and requests from before a time; gives how many."""
    # The key begins with the UUIDv7's milliseconds (RFC 9562): rows from before are at the start.
    before_id = max(before_us // 1000, 0).to_bytes(6, "big")
    sends = connection.execute(
        "DELETE FROM sends WHERE (client_message_id, no, sender_id) IN ("
        " SELECT client_message_id, no, sender_id FROM sends"
        " WHERE client_message_id < ? AND time_us < ? ORDER BY client_message_id LIMIT ?)",
        (before_id, before_us, limit),
    ).rowcount
    requests = connection.execute(
        "DELETE FROM requests WHERE (scope, request_id) IN ("
        " SELECT scope, request_id FROM requests WHERE time_us < ? ORDER BY time_us LIMIT ?)",
        (before_us, limit - sends),
    ).rowcount
    return sends + requests
