"""How commands end. docs/operations.md has this table, and a test holds the two together."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    LOCAL = 5
    INTERRUPTED = 130


MEANING = {
    Exit.OK: "done",
    Exit.FAILED: "a check found something wrong, or a replay a difference",
    Exit.USAGE: "wrong arguments or settings",
    Exit.UNREACHABLE: "the server cannot be reached",
    Exit.REFUSED: "the server refused, and said why",
    Exit.LOCAL: "this machine stands in the way: a data directory in use, a file, a port",
    Exit.INTERRUPTED: "interrupted",
}


class CommandError(Exception):
    """A command cannot do what it was told.

    Args:
        text: What was expected, what was found, what to do.
        code: The exit code.
    """

    def __init__(self, text: str, code: Exit = Exit.LOCAL) -> None:
        super().__init__(text)
        self.code = code
