"""Statements over many rows at once.

Each step of a statement lets go of Python's global lock and has to get it back, which can take
a whole switch interval while the event loop computes. So a batch of rows goes into few
statements of up to 64 rows, not into one step a row (`executemany`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

_SIZES = (64, 32, 16, 8, 4, 2, 1)


class ManyRows:
    """A statement with a VALUES list, prepared for powers of two of rows.

    Args:
        before: The text before the rows.
        width: Parameters a row.
        after: The text after the rows.
    """

    def __init__(self, before: str, width: int, after: str = "") -> None:
        row = f"({', '.join('?' * width)})"
        self._width = width
        self._texts = [
            (size, f"{before} VALUES {', '.join([row] * size)} {after}") for size in _SIZES
        ]

    def run(self, connection: sqlite3.Connection, values: Sequence[Any], *last: Any) -> int:
        """Runs it over all rows.

        Args:
            values: The rows' parameters, one row after the other.
            last: Parameters of the text after the rows.

        Returns:
            How many rows were changed.
        """
        width, changed, start, left = self._width, 0, 0, len(values) // self._width
        for size, text in self._texts:
            while left >= size:
                end = start + size * width
                cursor = connection.execute(text, (*values[start:end], *last))
                changed += cursor.rowcount
                start, left = end, left - size
        return changed

    def rows(self, connection: sqlite3.Connection, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Runs a query over all rows and gives what it finds."""
        width, start, left = self._width, 0, len(values) // self._width
        found: list[tuple[Any, ...]] = []
        for size, text in self._texts:
            while left >= size:
                end = start + size * width
                found += connection.execute(text, values[start:end]).fetchall()
                start, left = end, left - size
        return found
