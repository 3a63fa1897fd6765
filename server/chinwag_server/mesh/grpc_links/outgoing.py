"""The end of a link that asks: dialled by grpc.aio, and again whenever it has ended."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.grpc_links.hello import Identity
from chinwag_server.mesh.grpc_links.options import LinkOptions, host_of
from chinwag_server.mesh.grpc_links.reports import Reports
from chinwag_server.mesh.links import MESSAGE_BYTES, Unreachable
from chinwag_server.mesh.opened import Opened
from chinwag_server.mesh.outbox import OVERHEAD_BYTES
from chinwag_server.rpc.listening import is_loopback
from chinwag_server.wire.status import CallError

log = logging.getLogger(__name__)

LINK = "/chinwag.mesh.v1.MeshService/Link"

_OPTIONS = (
    # One channel is one connection and is never used again: pauses are ours to make.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES + OVERHEAD_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES + 2 * OVERHEAD_BYTES),
)
# The only kinds of bytes there are: frames are put together and taken apart here.
_Call = grpc.aio.StreamStreamCall[bytes, bytes]


class _Down(Exception):
    """The link could not be opened: the text says why."""


class OutgoingLink:
    """The link to one node, kept open.

    Args:
        changed: Called with True when it has come up and with False when it has gone down.
    """

    def __init__(
        self,
        node_id: str,
        address: str,
        identity: Identity,
        options: LinkOptions,
        reports: Reports,
        changed: Callable[[str, bool], None],
    ) -> None:
        self.node_id = node_id
        self.address = address
        self._identity = identity
        self._options = options
        self._reports = reports
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._why_down = "it was not opened yet"
        # Of the connection there is, if any.
        self._opened: Opened | None = None
        self._broken: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether hellos were exchanged on a connection that still lives, as far as is known."""
        return self._opened is not None

    def tell(self, news: mesh_pb.News) -> bool:
        """Queues news; whether it could."""
        return self._opened is not None and self._opened.tell(news)

    async def ask(self, question: mesh_pb.Question, timeout_s: float) -> mesh_pb.Answer:
        """Asks.

        Raises:
            Unreachable: There is no answer.
        """
        if self._opened is None:
            why = f"the link to node {self.node_id} is down: {self._why_down}"
            raise Unreachable(why, sent=False)
        return await self._opened.ask(question, timeout_s)

    def tick(self) -> None:
        """Some time has passed: see `Opened.tick`."""
        if self._opened is not None and not self._opened.tick():
            self.down(f"no sign of life within {self._options.dead_s:g} s")

    def down(self, why: str) -> None:
        """The connection is of no use any more: fails what was asked on it."""
        opened, self._opened = self._opened, None
        self._why_down = why
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(None)
        if opened is not None:
            opened.end(why)
            self._changed(self.node_id, False)

    # --- keeping it open ---

    async def run(self) -> None:
        """Opens it, again and again, until cancelled."""
        options, pause_s = self._options, self._options.retry_s
        while True:
            began = self._loop.time()
            try:
                why = await self._once()
            except Exception:
                # Whatever it was, the node must be reached again.
                log.exception("the link to node %s failed", self.node_id)
                why = "this node failed"
            self.down(why)
            self._reports.warn(f"node {self.node_id} at {self.address}", f"no link: {why}")
            if self._loop.time() - began > options.dial_s + options.max_retry_s:
                pause_s = options.retry_s  # it was up for a while
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, options.max_retry_s)

    async def _once(self) -> str:
        """Opens the link and serves it until it ends; why it has."""
        try:
            channel = self._channel()
        except (OSError, _Down) as error:
            return str(error)
        try:
            call: Any = channel.stream_stream(LINK)()
            try:
                await self._greet(call)
                return await self._serve(call)
            except _Down as error:
                return str(error)
            finally:
                call.cancel()
        finally:
            await channel.close()

    def _channel(self) -> grpc.aio.Channel:
        options = self._options
        files = options.tls()
        if files is None:
            if not is_loopback(host_of(self.address)):
                raise _Down(
                    "refusing to reach another machine in plain text: give all nodes "
                    "certificates, or have them listen on 127.0.0.1"
                )
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        assert files.client_ca_file is not None
        credentials = grpc.ssl_channel_credentials(
            root_certificates=files.client_ca_file.read_bytes(),
            private_key=files.key_file.read_bytes(),
            certificate_chain=files.cert_file.read_bytes(),
        )
        name = (("grpc.ssl_target_name_override", options.tls_name),) if options.tls_name else ()
        return grpc.aio.secure_channel(self.address, credentials, options=(*_OPTIONS, *name))

    async def _greet(self, call: _Call) -> None:
        """Exchanges hellos.

        Raises:
            _Down: The node is not there, or it is another one.
        """
        ours = mesh_pb.LinkRequest(hello=self._identity.hello(self.node_id))
        try:
            async with asyncio.timeout(self._options.dial_s):
                await call.write(ours.SerializeToString())
                first = await call.read()
                if not isinstance(first, bytes):
                    raise _Down(await _status(call))
                theirs = mesh_pb.LinkResponse.FromString(first).hello
            self._identity.check(theirs)
        except TimeoutError:
            raise _Down(f"no hello within {self._options.dial_s:g} s") from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise _Down(await _status(call)) from None
        except (CallError, DecodeError) as error:
            raise _Down(f"its hello is not sound: {error}") from None
        if theirs.node_id != self.node_id:
            raise _Down(f"node {theirs.node_id} answers there")

    async def _serve(self, call: _Call) -> str:
        self._wake.clear()
        options = self._options
        opened = Opened(self.node_id, options.questions, options.queue_bytes, self._wake.set)
        self._opened = opened
        self._broken = broken = self._loop.create_future()
        reader = asyncio.create_task(self._read(call, opened))
        writer = asyncio.create_task(self._write(call, opened))
        try:
            self._changed(self.node_id, True)
            await asyncio.wait({reader, writer, broken}, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                return self._why_down
            return reader.result() if reader.done() else writer.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, call: _Call, opened: Opened) -> str:
        try:
            while isinstance(data := await call.read(), bytes):
                opened.received(data)
        except DecodeError:
            return "it sent bytes that are no LinkResponse"
        except grpc.aio.AioRpcError:
            pass
        return await _status(call)

    async def _write(self, call: _Call, opened: Opened) -> str:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while frame := opened.next():
                    await call.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return await _status(call)


async def _status(call: _Call) -> str:
    """How a call has ended, which it has."""
    code, details = await call.code(), await call.details()
    if code is grpc.StatusCode.OK:
        return "it ended the link"
    return f"{code.name} {details}"
