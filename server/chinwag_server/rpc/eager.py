"""Running a coroutine up to its first real wait without a task.

Most frames are handled without waiting for anything; a task for each would cost more than the
work. asyncio can do that by itself from Python 3.12 on (eager tasks); this is the same for 3.11.
Until its first wait the coroutine runs in whatever runs now, so nothing in it may ask for the
current task before that (`asyncio.timeout` does).
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


def run_eagerly(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Runs `work`; what it raises before its first wait is raised here.

    Returns:
        The task that goes on with it; None: it is done.
    """
    try:
        waits_for = work.send(None)
    except StopIteration:
        return None
    return asyncio.ensure_future(_go_on(work, waits_for))


@types.coroutine
def _go_on(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    sent: Any = None
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            thrown: BaseException | None = error
        else:
            thrown = None
        try:
            waits_for = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
