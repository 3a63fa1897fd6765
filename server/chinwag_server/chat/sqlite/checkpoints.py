"""When the write-ahead log goes into the file, and redacted bytes out of both."""

from __future__ import annotations

import logging
import sqlite3
import time

from chinwag_server.chat.sqlite.connection import BUSY_MS

log = logging.getLogger(__name__)

CHECKPOINT_PAGES = 4_000  # 16 MiB of log
MAX_WAL_PAGES = 100_000
# Redacted bytes lie in the log, and in the file's old page, until a checkpoint has gone through.
SCRUB_AFTER_S = 0.05
SCRUB_RETRY_S = 0.5
SCRUB_BUSY_MS = 20


class Checkpoints:
    """Checkpoints between commits, not inside COMMIT: nobody waits for them.

    Args:
        connection: The writer's; called by its thread only.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pages = 0
        # A process that was killed may have left redacted bytes in its log.
        self._scrub_at: float | None = time.monotonic()

    def committed(self, pages: int, *, scrub: bool) -> None:
        """Notes a commit of about `pages` pages; `scrub`: it took bytes away."""
        self._pages += pages
        if scrub and self._scrub_at is None:
            self._scrub_at = time.monotonic() + SCRUB_AFTER_S

    def due_in_s(self) -> float | None:
        """Seconds until `run_due` has something to do; None: not before a commit."""
        if self._scrub_at is None:
            return None
        return max(0.0, self._scrub_at - time.monotonic())

    def run_due(self) -> None:
        """Checkpoints if it is time."""
        if self._scrub_at is not None and time.monotonic() >= self._scrub_at:
            done = self.finish()
            self._scrub_at = None if done else time.monotonic() + SCRUB_RETRY_S
        elif self._pages >= CHECKPOINT_PAGES:
            self._passive()

    def finish(self) -> bool:
        """Empties the log; whether all of it went: a reader of an older snapshot holds it."""
        try:
            self._connection.execute(f"PRAGMA busy_timeout = {SCRUB_BUSY_MS}")
            busy, left, _ = self._checkpoint("TRUNCATE")
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        except sqlite3.Error as error:
            log.warning("the chat store's log could not be emptied yet: %s", error)
            return False
        self._pages = 0
        return busy == 0 and left <= 0

    def _passive(self) -> None:
        try:
            _, left, _ = self._checkpoint("PASSIVE")
            if left > MAX_WAL_PAGES:
                # Readers without a pause kept the log from starting over.
                self._checkpoint("RESTART")
        except sqlite3.Error as error:
            log.warning("the chat store's log could not be moved into its file yet: %s", error)
        self._pages = 0

    def _checkpoint(self, mode: str) -> tuple[int, int, int]:
        # (whether somebody was in the way, pages in the log, pages of them in the file)
        busy, left, moved = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return busy, left, moved
