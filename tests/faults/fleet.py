"""Many devices that only look, in a process of their own: `python -m tests.faults.fleet`.

It is told addresses and tokens in a line of JSON, says "ready" once all are caught up, and when it
is told "end" it says what each saw. Times are of the monotonic clock, which processes share.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import chinwag
from chinwag import events as ev
from chinwag.account.v1 import user_pb2

ROOT = Path(__file__).parents[2]
# More at once only wait for each other.
OPENING = 64


@dataclass(slots=True)
class Looked:
    """What one device saw.

    Attributes:
        left, back: When connections ended that had been live, and when they were live again.
        last: By channel the last entry.
        holes: What did not follow on what was there before.
        error: Why its client ended for good.
    """

    left: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    holes: list[str] = field(default_factory=list)
    error: str = ""

    def take(self, event: ev.Event, live: asyncio.Event) -> None:
        """Notes an event."""
        match event:
            case ev.ConnectionChanged(connection=ev.Connection.LIVE):
                if live.is_set():
                    self.back.append(time.monotonic())
                live.set()
            case ev.ConnectionChanged():
                if live.is_set() and len(self.left) == len(self.back):
                    self.left.append(time.monotonic())
            case ev.ChannelOpened():
                self.last[event.channel_id] = event.cursor.id
            case ev.EntryEvent():
                last = self.last.get(event.channel_id, 0)
                if event.cursor.id != last + 1:
                    self.holes.append(f"{event.cursor.id} after {last}")
                self.last[event.channel_id] = event.cursor.id
            case ev.GapSeen() | ev.ChannelReset():
                self.holes.append(repr(event))


class Fleet:
    """The process, from outside."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def open(self, targets: str, tokens: list[user_pb2.Tokens]) -> None:
        """Returns when all devices are caught up."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.fleet",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=64 << 20,
        )
        texts = [base64.b64encode(each.SerializeToString()).decode() for each in tokens]
        await self._tell(json.dumps({"targets": targets, "tokens": texts}))
        assert await self._hear() == "ready"

    async def end(self) -> list[Looked]:
        """Ends all devices."""
        await self._tell("end")
        told = json.loads(await self._hear())
        assert self._process is not None
        await self._process.wait()
        return [Looked(**one) for one in told]

    async def kill(self) -> None:
        """If it has not ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def _hear(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


async def _look(
    targets: str,
    token: str,
    looked: Looked,
    live: asyncio.Event,
    opening: asyncio.Semaphore,
) -> None:
    tokens = user_pb2.Tokens.FromString(base64.b64decode(token))
    session = chinwag.Session.of(tokens, address=targets)
    client = chinwag.connect(targets, session, wait_s=None, drain_s=0.0)

    async def read() -> None:
        try:
            async with client:
                async for event in client.events():
                    looked.take(event, live)
        except chinwag.ChinwagError as error:
            looked.error = repr(error)
            live.set()

    async with opening:
        reading = asyncio.ensure_future(read())
        await live.wait()
    try:
        await reading
    finally:
        reading.cancel()


async def _main() -> None:
    told: dict[str, Any] = json.loads(await asyncio.to_thread(sys.stdin.readline))
    opening = asyncio.Semaphore(OPENING)
    fleet = [Looked() for _ in told["tokens"]]
    live = [asyncio.Event() for _ in fleet]
    work = [
        asyncio.ensure_future(_look(told["targets"], *one, opening))
        for one in zip(told["tokens"], fleet, live, strict=True)
    ]
    for each in live:
        await each.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps([asdict(looked) for looked in fleet]), flush=True)
    for task in work:
        task.cancel()
    await asyncio.wait(work)


if __name__ == "__main__":
    asyncio.run(_main())
