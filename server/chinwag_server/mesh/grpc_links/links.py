"""A node's links over gRPC: the port `mesh.links.Links`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.grpc_links.hello import Identity, Nonces
from chinwag_server.mesh.grpc_links.incoming import IncomingLink
from chinwag_server.mesh.grpc_links.options import LinkOptions
from chinwag_server.mesh.grpc_links.outgoing import LINK, OutgoingLink
from chinwag_server.mesh.grpc_links.reports import Reports
from chinwag_server.mesh.links import MESSAGE_BYTES, Answers, Unreachable
from chinwag_server.mesh.opened import TICKS
from chinwag_server.mesh.outbox import OVERHEAD_BYTES
from chinwag_server.rpc.listening import ListenError
from chinwag_server.wire.call import Call
from chinwag_server.wire.dispatch import Dispatch
from chinwag_server.wire.limits import Limits
from chinwag_server.wire.listener import Listener, Tls
from chinwag_server.wire.status import CallError, Code

log = logging.getLogger(__name__)

_STOP_S = 0.2


class GrpcLinks:
    """Links of one process.

    Args:
        node_id: Of this process's life.
        cluster_id: Of the mesh; nodes of others are refused.
        version: Of the software, for the others' logs.

    Attributes:
        port: The bound port, after `start`.
    """

    def __init__(
        self,
        node_id: str,
        cluster_id: str,
        answers: Answers,
        options: LinkOptions | None = None,
        *,
        version: str = "",
    ) -> None:
        self.port = 0
        self.identity = Identity(cluster_id, node_id, version)
        self.answers = answers
        self.options = options or LinkOptions()
        self._nodes: dict[str, str] = {}
        self._outgoing: dict[str, OutgoingLink] = {}
        self._tasks: dict[OutgoingLink, asyncio.Task[None]] = {}
        # Accepted ones: all, and by node those that were let in.
        self._accepted: dict[IncomingLink, None] = {}
        self._incoming: dict[str, IncomingLink] = {}
        self._nonces = Nonces()
        self._callbacks: list[Callable[[str, bool], None]] = []
        self._listener: Listener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reports: Reports

    # --- the port ---

    def follow(self, nodes: Mapping[str, str]) -> None:
        self._nodes = {
            node_id: address
            for node_id, address in nodes.items()
            if node_id != self.identity.node_id
        }
        if self._listener is not None:
            self._follow()

    def tell(self, node_id: str, news: mesh_pb.News) -> bool:
        link = self._outgoing.get(node_id)
        return link is not None and link.tell(news)

    async def ask(
        self, node_id: str, question: mesh_pb.Question, timeout_s: float
    ) -> mesh_pb.Answer:
        link = self._outgoing.get(node_id)
        if link is None:
            raise Unreachable(f"node {node_id} is none of the mesh's nodes now", sent=False)
        return await link.ask(question, timeout_s)

    def on_change(self, changed: Callable[[str, bool], None]) -> None:
        self._callbacks.append(changed)

    def is_up(self, node_id: str) -> bool:
        link = self._outgoing.get(node_id)
        return link is not None and link.up

    async def start(self) -> None:
        options = self.options
        options.check()
        loop = asyncio.get_running_loop()
        self._reports = Reports(loop.time)
        listener = Listener(Dispatch(self._open), _limits(options))
        files = options.tls()
        tls = Tls(files.cert_file, files.key_file, files.client_ca_file) if files else None
        try:
            self.port = await listener.listen(options.host, options.port, tls)
        except OSError as error:
            raise ListenError(
                f"cannot listen for other nodes on {options.host}:{options.port}: "
                f"{error.strerror or error}; choose another address or port"
            ) from error
        self._listener = listener
        self._timer = loop.call_later(options.dead_s / TICKS, self._tick)
        self._follow()

    async def stop(self) -> None:
        if self._listener is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        why = "this node stops"
        for accepted in tuple(self._accepted):
            accepted.end(Code.UNAVAILABLE, why)
        for link in tuple(self._outgoing.values()):
            self._drop(link, why)
        self._nodes = {}
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        listener, self._listener = self._listener, None
        await listener.stop(_STOP_S)

    # --- links that are opened ---

    def _follow(self) -> None:
        for link in tuple(self._outgoing.values()):
            if self._nodes.get(link.node_id) != link.address:
                self._drop(link, "the node is none of the mesh's nodes any more, or has moved")
        for node_id in tuple(self._incoming):
            if node_id not in self._nodes:
                self._incoming[node_id].end(
                    Code.UNAVAILABLE, f"node {node_id} is none of the mesh's nodes any more"
                )
        self._nonces.keep(self._nodes)
        for node_id, address in self._nodes.items():
            if node_id not in self._outgoing:
                self._dial(node_id, address)
        for accepted in tuple(self._accepted):
            accepted.reconsider()

    def _dial(self, node_id: str, address: str) -> None:
        link = self._outgoing[node_id] = OutgoingLink(
            node_id, address, self.identity, self.options, self._reports, self._changed
        )
        task = self._tasks[link] = asyncio.create_task(link.run())
        task.add_done_callback(lambda _task: self._tasks.pop(link))

    def _drop(self, link: OutgoingLink, why: str) -> None:
        del self._outgoing[link.node_id]
        link.down(why)
        self._tasks[link].cancel()

    def _changed(self, node_id: str, up: bool) -> None:
        log.info("the link to node %s is %s", node_id, "up" if up else "down")
        for changed in self._callbacks:
            try:
                changed(node_id, up)
            except Exception:
                log.exception("the link to node %s changed, and what follows failed", node_id)

    # --- links that are accepted: `incoming.Host` ---

    def _open(self, call: Call) -> None:
        if call.path != LINK:
            call.finish(Code.UNIMPLEMENTED, f"nodes speak {LINK} here, there is no {call.path}")
            call.stream.connection.charge_reset()
            return
        link = IncomingLink(call, self)
        self._accepted[link] = None
        link.open()

    def admit(self, link: IncomingLink, hello: mesh_pb.LinkHello) -> bool:
        if hello.node_id not in self._nodes:
            return False
        self._nonces.use(hello)
        before = self._incoming.get(hello.node_id)
        if before is not None:
            before.end(Code.ABORTED, "the node has opened a newer link")
        self._incoming[hello.node_id] = link
        return True

    def refused(self, peer: str, error: CallError) -> None:
        self._reports.warn(peer, f"its link was refused: {Code(error.code).name} {error.message}")

    def gone(self, link: IncomingLink) -> None:
        self._accepted.pop(link, None)
        if self._incoming.get(link.node_id) is link:
            del self._incoming[link.node_id]

    # --- time ---

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.options.dead_s / TICKS, self._tick)
        for outgoing in tuple(self._outgoing.values()):
            outgoing.tick()
        for incoming in tuple(self._incoming.values()):
            incoming.tick()


def _limits(options: LinkOptions) -> Limits:
    """The core's bounds: a connection carries one link, and few are opened."""
    return Limits(
        connections=options.connections,
        handshakes=min(100, options.connections),
        concurrent_streams=4,
        message_bytes=MESSAGE_BYTES + 2 * OVERHEAD_BYTES,
        stream_window=2 << 20,
        handshake_s=options.dial_s,
        stall_s=2 * options.dead_s,
    )
