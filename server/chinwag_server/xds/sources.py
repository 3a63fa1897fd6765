"""Where endpoints come from: a list, or the nodes that have registered in etcd."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing

from chinwag_server.envoy.front import Address
from chinwag_server.mesh.coordination import Coordination, CoordinationUnavailable
from chinwag_server.mesh.membership import PREFIX, NodeRecord, NodesSeen, NodeState
from chinwag_server.xds.resources import Endpoint

log = logging.getLogger(__name__)

RETRY_S = 1.0

Publish = Callable[[Collection[Endpoint]], None]


def endpoints_of(nodes: Mapping[str, NodeRecord]) -> list[Endpoint]:
    """The nodes as clients reach them: those that serve, and those that drain, which get nothing
    new. What starts is not there yet."""
    found = []
    for node in nodes.values():
        if node.state is NodeState.STARTING or not node.client_address:
            continue
        try:
            address = Address.parse(node.client_address)
        except ValueError as error:
            log.warning("node %s is passed over: %s", node.node_id, error)
            continue
        draining = node.state is NodeState.DRAINING
        found.append(Endpoint(address.host, address.port, node.zone, node.capacity, draining))
    return found


class FromNodes:
    """Follows the nodes of a mesh. While etcd is away, what was last known is served on."""

    def __init__(
        self, coordination: Coordination, publish: Publish, *, prefix: str = PREFIX
    ) -> None:
        self._coordination = coordination
        self._publish = publish
        self._prefix = f"{prefix}nodes/"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to follow."""
        self._task = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        seen = NodesSeen()
        while True:
            try:
                async with aclosing(self._coordination.watch(self._prefix)) as watch:
                    async for news in watch:
                        self._publish(endpoints_of(seen.take(news)))
            except CoordinationUnavailable as error:
                log.warning("the nodes are not followed for a moment: %s", error)
            await asyncio.sleep(RETRY_S)
