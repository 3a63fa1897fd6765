"""Which entry ids a member may see: closed ranges, one a stay, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def visible(stays: Iterable[Range], head_id: int) -> list[Range]:
    """Merges stays into disjoint rising ranges up to the head.

    Args:
        stays: (from, to) pairs; `to` 0 means that the stay goes on.
        head_id: The newest entry that may be shown.
    """
    merged: list[Range] = []
    for start, end in sorted((start, end or head_id) for start, end in stays):
        last = min(end, head_id)
        if last < start:
            continue
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((start, last))
    return merged


def contains(ranges: Sequence[Range], entry_id: int) -> bool:
    """Whether an id lies in one of the ranges."""
    return any(start <= entry_id <= end for start, end in ranges)


def after(ranges: Sequence[Range], position: int) -> tuple[list[Range], list[Range]]:
    """Splits what follows a position into what may be read and what is hidden.

    Returns:
        (readable, hidden): disjoint rising ranges of ids above `position`; a hidden range lies
        before or between readable ones, never after the last.
    """
    readable: list[Range] = []
    hidden: list[Range] = []
    expected = position + 1
    for start, end in ranges:
        if end < expected:
            continue
        if start > expected:
            hidden.append((expected, start - 1))
        readable.append((max(start, expected), end))
        expected = end + 1
    return readable, hidden
