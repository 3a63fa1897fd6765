"""Pages from the newest to the oldest, and the tokens that lead from one to the next."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from chinwag_server.account.store import Position
from chinwag_server.rpc.errors import Refusal

DEFAULT_SIZE = 50

Row = TypeVar("Row")


def read_token(method: str, token: str) -> Position | None:
    """Where a page token goes on; None: at the beginning.

    Raises:
        Refusal: INVALID_PAGE_TOKEN.
    """
    if not token:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        name, time_us, row_id = found
        # `type` and not isinstance: a bool is no number here.
        types = (type(time_us), type(row_id))
        if name == method and types == (int, str) and abs(time_us) < 2**63:
            return time_us, row_id
    except (ValueError, TypeError):
        pass
    raise Refusal(
        "INVALID_PAGE_TOKEN",
        "the page token is not one that this method gave: start without one",
        fields=[("page_token", "unknown")],
    )


def cut(
    method: str, rows: Sequence[Row], size: int, position: Callable[[Row], Position]
) -> tuple[Sequence[Row], str]:
    """A page of rows of which one more than its size was asked for, and the next one's token."""
    size = size or DEFAULT_SIZE
    if len(rows) <= size:
        return rows, ""
    raw = json.dumps([method, *position(rows[size - 1])], separators=(",", ":")).encode()
    return rows[:size], base64.urlsafe_b64encode(raw).decode().rstrip("=")


def limit(size: int) -> int:
    """How many rows to ask for."""
    return (size or DEFAULT_SIZE) + 1
