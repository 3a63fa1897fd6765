"""TCP proxies between the processes of a mesh, which can cut and slow what goes through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from pathlib import Path

from tools.engines.process import free_port

HOST = "127.0.0.1"
CHUNK = 1 << 16
CONNECT_S = 5.0


class Proxy:
    """Before one port.

    Args:
        target: The port to pass on to.
        processes: Who may be cut off by itself, now.

    Attributes:
        port: Its own.
        delay_s: How long every piece waits, in each direction.
    """

    def __init__(self, target: int, processes: Callable[[], Collection[int]] = lambda: ()) -> None:
        self.port = free_port(HOST)
        self.delay_s = 0.0
        self._target = target
        self._processes = processes
        self._passing: dict[int | None, asyncio.Event] = {}  # by process; None: all of them
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_off(self, pid: int | None = None) -> None:
        """Holds what goes to and from a process, or from all, and refuses nothing: as when a cable
        is pulled."""
        self._passing.setdefault(pid, asyncio.Event()).clear()

    def join(self) -> None:
        """Passes all on again."""
        for passing in self._passing.values():
            passing.set()
        self._passing.clear()

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._pass(near, back)
        finally:
            self._tasks.discard(task)
            back.close()

    async def _pass(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        pid = process_of(back.get_extra_info("peername")[1], self.port, self._processes())
        async with asyncio.timeout(CONNECT_S):
            far, forth = await asyncio.open_connection(HOST, self._target)
        ways = [
            asyncio.ensure_future(self._pump(near, forth, pid)),
            asyncio.ensure_future(self._pump(far, back, pid)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            forth.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int
    ) -> None:
        loop = asyncio.get_running_loop()
        # A queue, so that a delay is one of each piece and not one after the other.
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(100)

        async def read() -> None:
            with contextlib.suppress(OSError):
                while piece := await reader.read(CHUNK):
                    await pieces.put((loop.time() + self.delay_s, piece))
            await pieces.put((loop.time(), b""))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                while (held := self._held(pid)) is not None:
                    await held.wait()
                if not piece:
                    return
                writer.write(piece)
                await writer.drain()
        finally:
            reading.cancel()

    def _held(self, pid: int) -> asyncio.Event | None:
        """What a process's pieces wait for; None: nothing."""
        for key in (None, pid):
            passing = self._passing.get(key)
            if passing is not None and not passing.is_set():
                return passing
        return None


def process_of(port: int, peer_port: int, processes: Collection[int]) -> int:
    """Which of some processes holds the end of a connection of this machine at a port; 0: none."""
    # Looking at these only takes some milliseconds. To look at all of a busy machine's for each of
    # many connections kept the tests from passing anything on.
    link = f"socket:[{_inode(port, peer_port)}]" if processes else ""
    for pid in processes:
        with contextlib.suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(handle.readlink()) == link:
                        return pid
    return 0


def _inode(port: int, peer_port: int) -> str:
    """Of the socket of a connection of this machine; "": there is none."""
    ends = (f":{port:04X}", f":{peer_port:04X}")
    # Sockets that can do both are listed with those of IPv6.
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split(maxsplit=10)
            if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
                return fields[9]
    return ""
