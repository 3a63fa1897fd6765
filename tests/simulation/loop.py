"""An asyncio event loop with a virtual clock, on which many *processes* live in one thread.

Each handle belongs to the process in whose context it was made (`current`). A paused process's
handles wait, a dead one's never run: so a process stops at whatever await it stands at, and
nothing in it notices. Time jumps to the next timer; a process's own clock may run fast or slow.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any

EPOCH_S = 1_700_000_000.0  # what the wall clock shows when a simulation starts


class Stuck(Exception):
    """A run did not end within its bound of steps or of virtual time: the text says where."""


class _Handle:
    """A callback that is to run: asyncio's handle, without what nobody asks of one."""

    __slots__ = ("_when", "args", "callback", "context", "process")

    def __init__(
        self,
        callback: Callable[..., object] | None,
        args: tuple[Any, ...],
        context: Context,
        process: Process | None,
        when: float = 0.0,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = process
        self._when = when

    def cancel(self) -> None:
        """It will not run."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it will not run."""
        return self.callback is None

    def when(self) -> float:
        """By the clock of its process."""
        return self._when


class Process:
    """What dies and pauses as one.

    Attributes:
        rate: Seconds that its clock shows for each that passes.
        offset_s: What its wall clock is ahead.
    """

    __slots__ = ("_base", "_zero", "alive", "name", "offset_s", "parked", "paused", "rate")

    def __init__(self, name: str, *, now: float, rate: float = 1.0, offset_s: float = 0.0) -> None:
        self.name = name
        self.rate = rate
        self.offset_s = offset_s
        self.alive = True
        self.paused = False
        self.parked: list[_Handle] = []
        self._zero = now

    def clock(self, now: float) -> float:
        """Its monotonic clock when `now` has passed in the world."""
        return (now - self._zero) * self.rate + 1000.0

    def world(self, when: float) -> float:
        """The time of the world at which its monotonic clock shows `when`, or just after."""
        due = self._zero + (when - 1000.0) / self.rate
        while self.clock(due) < when:
            # Rounded down: whoever wakes up too early goes to sleep again, for no time at all.
            due = math.nextafter(due, math.inf)
        return due


current: ContextVar[Process | None] = ContextVar("current", default=None)


class Loop(asyncio.AbstractEventLoop):
    """One run's loop. Everything in it happens in an order that the program and its seed decide."""

    def __init__(self, *, max_steps: int = 1_000_000) -> None:
        self.now = 0.0
        self.steps = 0
        self.errors: list[dict[str, Any]] = []
        self._max_steps = max_steps
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._world = Context()  # of what happens in no process
        self._order = count()
        # What a dead process held must not be collected while others run: closing a coroutine
        # would run its `finally`, and the dead would act.
        self._kept: list[Any] = []

    # --- processes ---

    def process(self, name: str, *, rate: float = 1.0, offset_s: float = 0.0) -> Process:
        """A new process, alive."""
        return Process(name, now=self.now, rate=rate, offset_s=offset_s)

    @contextmanager
    def inside(self, process: Process | None) -> Iterator[None]:
        """What is scheduled within belongs to the process."""
        token = current.set(process)
        try:
            yield
        finally:
            current.reset(token)

    def kill(self, process: Process) -> None:
        """Nothing of the process runs any more."""
        process.alive = False
        self._kept += process.parked
        process.parked = []

    def pause(self, process: Process) -> None:
        """Its handles wait from now on; its clocks go on."""
        process.paused = True

    def resume(self, process: Process) -> None:
        """What waited runs, in the order in which it became due."""
        process.paused = False
        self._ready.extend(process.parked)
        process.parked = []

    # --- running ---

    def run(self, work: Coroutine[Any, Any, Any], *, until: float = float("inf")) -> Any:
        """Runs until the coroutine has ended.

        Raises:
            Stuck: It does not end: nothing is left to run, or a bound was passed.
        """
        asyncio._set_running_loop(self)
        try:
            main: asyncio.Task[Any] = self.create_task(work)
            self._run_ready()
            while not main.done():
                self._go_on(until)
                self._run_ready()
            return main.result()
        finally:
            asyncio._set_running_loop(None)

    def _run_ready(self) -> None:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            callback, process = handle.callback, handle.process
            if callback is None:
                continue
            if process is not None:
                if not process.alive:
                    self._kept.append(handle)
                    continue
                if process.paused:
                    process.parked.append(handle)
                    continue
            self.steps += 1
            if self.steps > self._max_steps:
                raise Stuck(f"more than {self._max_steps} steps at {self.now:.3f} s")
            try:
                handle.context.run(callback, *handle.args)
            except Exception as error:
                self.call_exception_handler({"message": repr(callback), "exception": error})

    def _go_on(self, until: float) -> None:
        """The time is that of the next timer; it and those of the same moment are ready."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            raise Stuck(f"nothing is left to run at {self.now:.3f} s")
        self.now = max(self.now, timers[0][0])
        if self.now > until:
            raise Stuck(f"not done at {until:.0f} s of virtual time")
        while timers and timers[0][0] <= self.now:
            self._ready.append(heapq.heappop(timers)[2])

    # --- what asyncio asks of a loop ---

    def time(self) -> float:
        process = current.get()
        return process.clock(self.now) if process is not None else self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        if context is None:
            context = copy_context()
        handle = _Handle(callback, args, context, context.get(current))
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        if context is None:
            context = copy_context()
        process = current.get()
        handle = _Handle(callback, args, context, context.get(current), when)
        due = process.world(when) if process is not None else when
        heapq.heappush(self._timers, (max(due, self.now), next(self._order), handle))
        return handle

    def happen(self, delay: float, callback: Callable[[], object]) -> None:
        """Something happens in the world after a while, whoever lives by then."""
        self.happen_at(self.now + delay, callback)

    def happen_at(self, when: float, callback: Callable[[], object]) -> None:
        """The same at a moment. What is to happen at the same moment keeps its order, which a
        delay that is added to the present time does not: it is rounded."""
        handle = _Handle(callback, (), self._world, None)
        heapq.heappush(self._timers, (when, next(self._order), handle))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._kept.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    async def shutdown_asyncgens(self) -> None:
        pass


class SimClock:
    """`chinwag_server.clock.Clock` of one process."""

    def __init__(self, loop: Loop, process: Process) -> None:
        self._loop = loop
        self._process = process

    def time_us(self) -> int:
        """Its wall clock, microseconds since 1970."""
        process = self._process
        return int((EPOCH_S + self._loop.now * process.rate + process.offset_s) * 1_000_000)

    def monotonic(self) -> float:
        """Its monotonic clock, in seconds."""
        return self._process.clock(self._loop.now)
