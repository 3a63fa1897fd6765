"""A device's connection to a node: frames in order in both directions, until it breaks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from chinwag.errors import ChinwagError, Unavailable
from chinwag_server.chat.stream import DeviceStream
from chinwag_server.rpc.caller import Caller

if TYPE_CHECKING:
    from tests.simulation.whole.node import WholeNode
    from tests.simulation.whole.world import WholeWorld

TRAVEL_S = 0.01
ROOM = 1 << 20


class Client(Protocol):
    """The device's end."""

    def came(self, connection: Connection, data: bytes) -> None:
        """A frame came."""

    def ended(self, connection: Connection, error: ChinwagError | None) -> None:
        """The connection is over, as far as the device can tell."""


class _Way:
    """One direction: what is sent arrives in its order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = 0.0

    def send(self, arrive: Callable[[], None]) -> None:
        """Something travels; if the connection breaks meanwhile it is lost."""
        connection, world = self._connection, self._connection.world
        due = world.loop.now + world.rng.expovariate(1 / TRAVEL_S)
        due = self._last = max(self._last, due)
        world.loop.happen_at(due, lambda: None if connection.is_broken else arrive())


class Connection:
    """One connection, from a device's attempt to its end.

    Args:
        caller: Who opens it.
    """

    def __init__(self, world: WholeWorld, node: WholeNode, caller: Caller, client: Client) -> None:
        self.world = world
        self.is_broken = False
        self._client = client
        self._told = False
        self._end = NodeEnd(self, node, caller)
        self._up = _Way(self)
        world.connections[self] = None
        self._up.send(self._end.opened)

    @property
    def node(self) -> WholeNode:
        """Where it leads."""
        return self._end.node

    def is_of(self, node: WholeNode) -> bool:
        """Whether it leads to the process that a node has now."""
        return self._end.node is node and self._end.process is node.process

    # --- the device's end ---

    def send(self, data: bytes) -> None:
        """The device sends a frame."""
        self._up.send(lambda: self._end.came(data))

    def leave(self) -> None:
        """The device has closed it, and hears nothing of it any more; the node learns of it."""
        self._told = True
        self.world.connections.pop(self, None)
        self._up.send(self._end.left)

    def came(self, data: bytes) -> None:
        """The node's frame is there."""
        if not self._told:
            self._client.came(self, data)

    def ended(self, error: ChinwagError | None) -> None:
        """The device learns that it is over."""
        if not self._told:
            self._told = True
            self.world.connections.pop(self, None)
            self._client.ended(self, error)

    # --- what happens to it ---

    def break_off(self, device_s: float | None, node_s: float | None) -> None:
        """Nothing gets through any more; each end notices after a while, or never (None)."""
        if self.is_broken:
            return
        self.is_broken = True
        happen = self.world.loop.happen
        if device_s is not None:
            happen(device_s, lambda: self.ended(Unavailable("it broke", code=14)))
        if node_s is not None:
            happen(node_s, self._end.left)


class NodeEnd:
    """The node's end: feeds a stream, and is its `rpc.pushed.Sink`."""

    def __init__(self, connection: Connection, node: WholeNode, caller: Caller) -> None:
        self.node = node
        self.process = node.process
        self._connection = connection
        self._loop = connection.world.loop
        self._caller = caller
        self._down = _Way(connection)
        self._frames: deque[bytes] = deque()
        self._stream: DeviceStream | None = None
        self._serving: asyncio.Task[None] | None = None
        self._finished = False

    # --- what comes, in the world ---

    def opened(self) -> None:
        """A device opens it."""
        if self._is_there():
            self._inside(self._open)
        else:
            self._connection.ended(Unavailable("connection refused", code=14))

    def came(self, data: bytes) -> None:
        """A frame of the device."""
        if self._is_there():
            self._inside(lambda: self._take(data))
        else:
            self._connection.break_off(0.0, None)

    def left(self) -> None:
        """The device is gone."""
        if self._is_there():
            self._inside(self._gone)

    def _is_there(self) -> bool:
        return self.process is not None and self.process.alive

    def _inside(self, act: Callable[[], None]) -> None:
        with self._loop.inside(self.process):
            self._loop.call_soon(act)

    # --- in the node's process ---

    def _open(self) -> None:
        if self.node.serves:
            self._stream = self.node.room.streams.open(self._caller, self)
        else:
            refused = Unavailable("it drains", reason="DRAINING", code=14, retry_after=0.5)
            self._down.send(lambda: self._connection.ended(refused))

    def _take(self, data: bytes) -> None:
        self._frames.append(data)
        if self._serving is None and self._stream is not None:
            self._serving = self._loop.create_task(self._serve(self._stream))

    async def _serve(self, stream: DeviceStream) -> None:
        try:
            while self._frames:
                await stream.receive(self._frames.popleft())
        except Exception as defect:
            self._loop.call_exception_handler({"message": "a frame", "exception": defect})
        finally:
            self._serving = None

    def _gone(self) -> None:
        if self._stream is not None:
            self._stream.gone()
        if self._serving is not None:
            self._serving.cancel()

    # --- rpc.pushed.Sink ---

    def room(self) -> int:
        return 0 if self._finished else ROOM

    def offer(self, data: bytes) -> bool:
        if self._finished:
            return False
        self.send(data)
        return True

    def send(self, data: bytes) -> None:
        self._down.send(lambda: self._connection.came(data))

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._down.send(lambda: self._connection.ended(None))
