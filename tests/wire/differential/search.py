"""Runs hypothesis beside an event loop, for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

# Hypothesis cannot be stopped by the clock: it is run again and again for a few examples.
_ROUND = 20
_EXAMPLE_S = 120.0
# How long it may look for a smaller example of a failure.
_SHRINK_S = 60.0


async def search(
    examples: SearchStrategy[T], check: Callable[[T], Awaitable[None]], seconds: float
) -> int:
    """Checks random examples until the time is up, or one fails, which is then made smaller.

    Returns:
        How many were checked.
    """
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    count = 0
    shrink_until = 0.0
    failed: list[T] = []

    async def run(example: T) -> None:
        await check(example)

    @settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(examples)
    def look(example: T) -> None:
        nonlocal count, shrink_until
        now = time.monotonic()
        if failed and now > shrink_until and example != failed[-1]:
            return  # small enough: hypothesis runs the last one that failed once more
        if not failed and now > until:
            return
        count += 1
        try:
            asyncio.run_coroutine_threadsafe(run(example), loop).result(_EXAMPLE_S)
        except BaseException:
            shrink_until = shrink_until or now + _SHRINK_S
            failed.append(example)
            raise

    def rounds() -> None:
        while time.monotonic() < until:
            look()

    await asyncio.to_thread(rounds)
    return count
