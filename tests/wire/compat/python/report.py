"""How a client says what it has checked: one line of JSON a check."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable, Mapping

SIZES = (0, 1, 100, 16_384, 65_536, 1 << 20, (4 << 20) - 64)
TEXT = "what went wrong: 50 % and ünïcode\n"


def say(name: str, error: BaseException | None) -> None:
    """One check's outcome."""
    detail = "" if error is None else "".join(traceback.format_exception(error))[-1500:]
    print(json.dumps({"check": name, "ok": error is None, "detail": detail}), flush=True)


def run(checks: Mapping[str, Callable[[], None]]) -> None:
    """Runs checks one after the other."""
    for name, check in checks.items():
        try:
            check()
        except Exception as error:
            say(name, error)
        else:
            say(name, None)


async def run_async(checks: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """The same, for coroutines."""
    for name, check in checks.items():
        try:
            await check()
        except Exception as error:
            say(name, error)
        else:
            say(name, None)


def equal(got: object, wanted: object) -> None:
    """Raises if a check found something else."""
    if got != wanted:
        raise AssertionError(f"got {str(got)[:300]}, wanted {str(wanted)[:300]}")
