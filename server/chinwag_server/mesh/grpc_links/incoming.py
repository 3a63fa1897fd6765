"""The end of a link that answers: one call on our own gRPC core, by callbacks."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from google.protobuf.message import DecodeError

from chinwag.mesh.v1 import mesh_service_pb2 as mesh_pb
from chinwag_server.mesh.answering import Answering
from chinwag_server.mesh.grpc_links.hello import Identity
from chinwag_server.mesh.grpc_links.options import LinkOptions
from chinwag_server.mesh.links import Answers
from chinwag_server.mesh.opened import TICKS
from chinwag_server.rpc.listening import is_loopback
from chinwag_server.wire.call import Call
from chinwag_server.wire.status import CallError, Code

# Of a frame of answers; what is larger goes alone.
_FRAME_BYTES = 1 << 20
# Nothing is begun any more when the queue is full; what is at work may still add to it, up to so
# many times as much.
_OVERFLOW = 4


class Host(Protocol):
    """What accepted links need of their node."""

    identity: Identity
    options: LinkOptions
    answers: Answers

    def admit(self, link: IncomingLink, hello: mesh_pb.LinkHello) -> bool:
        """Lets a link in whose hello is sound; False: its node is not known yet.

        Raises:
            CallError: It may not come in.
        """

    def refused(self, peer: str, error: CallError) -> None:
        """A link was not let in, or has broken a rule."""

    def gone(self, link: IncomingLink) -> None:
        """A link is over."""


class IncomingLink:
    """The receiver of a link's call.

    Attributes:
        node_id: Who has opened it; "": it has not said so.
    """

    def __init__(self, call: Call, host: Host) -> None:
        self.node_id = ""
        self._call = call
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._hello: mesh_pb.LinkHello | None = None
        self._answering: Answering | None = None
        self._last_question = 0
        self._heard = 0
        self._silent = 0
        self._held = False
        self._over = False
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        call.receiver = self
        call.metadata = ()

    def open(self) -> None:
        """Waits for a hello."""
        options = self._host.options
        if not options.secure and not is_loopback(self._call.peer):
            text = "without TLS nodes are linked on the loopback of one machine alone"
            self._refuse(CallError(Code.PERMISSION_DENIED, text))
            return
        text = f"a link begins with a hello, within {options.hello_s:g} s"
        self._refuse_after(options.hello_s, CallError(Code.UNAUTHENTICATED, text))

    def reconsider(self) -> None:
        """The nodes of the mesh have changed."""
        if self._hello is not None and self._answering is None and not self._over:
            try:
                self._admit(self._hello)
            except CallError as error:
                self._refuse(error)

    def end(self, code: Code, text: str) -> None:
        """Ends the link: what is at work is cancelled."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._answering is not None:
            self._answering.end()
        self._flush()  # what is done is told, as far as it leaves at once
        self._out.clear()
        self._host.gone(self)
        self._call.finish(code, text)

    def tick(self) -> None:
        """A part of the time has passed after which a peer is dead; see `Opened.tick`."""
        answering = self._answering
        if answering is None:
            return
        answering.tick()
        # While it may not send, it cannot show that it lives.
        self._silent = 0 if self._held else self._silent + 1
        if self._silent >= TICKS:
            text = f"no sign of life from node {self.node_id}"
            self._refuse(CallError(Code.UNAVAILABLE, text))
        elif self._call.room():
            self._call.send(mesh_pb.LinkResponse(heard=self._heard).SerializeToString())

    # --- of the call ---

    def message(self, data: bytes) -> None:
        self._heard += 1
        self._silent = 0
        try:
            frame = mesh_pb.LinkRequest.FromString(data)
            if self._answering is not None:
                self._take(frame, self._answering)
            else:
                self._greet(frame)
        except DecodeError:
            text = f"expected a LinkRequest, got {len(data)} bytes that are none"
            self._refuse(CallError(Code.INVALID_ARGUMENT, text))
        except CallError as error:
            self._refuse(error)

    def half_closed(self) -> None:
        self.end(Code.OK, "")

    def gone(self, code: Code) -> None:
        self.end(code, "")

    def refused(self, error: CallError) -> None:
        self._refuse(error)

    def writable(self) -> None:
        self._flush()

    # --- hello ---

    def _greet(self, frame: mesh_pb.LinkRequest) -> None:
        if not frame.HasField("hello") or frame.questions or frame.news:
            raise CallError(Code.UNAUTHENTICATED, "a link begins with a hello, and nothing else")
        self._host.identity.check(frame.hello)
        self._hello = frame.hello
        self.node_id = frame.hello.node_id
        if not self._admit(frame.hello):
            # Others may have been told of it before us.
            self._regulate()
            text = (
                f"node {self._host.identity.node_id} knows no node {self.node_id}: is it "
                "registered, under the same prefix of the same etcd?"
            )
            self._refuse_after(self._host.options.hello_s, CallError(Code.PERMISSION_DENIED, text))

    def _admit(self, hello: mesh_pb.LinkHello) -> bool:
        host = self._host
        if not host.admit(self, hello):
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._answering = Answering(
            self.node_id,
            host.answers,
            self._send,
            self._has_room,
            self._regulate,
            host.options.at_work,
        )
        ours = mesh_pb.LinkResponse(hello=host.identity.hello(self.node_id), heard=self._heard)
        self._call.send(ours.SerializeToString())
        self._regulate()
        return True

    def _refuse_after(self, delay_s: float, error: CallError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, self._refuse, error)

    def _refuse(self, error: CallError) -> None:
        if self._over:
            return
        known = self._answering is not None
        self._host.refused(f"node {self.node_id}" if known else self._call.peer, error)
        self.end(Code(error.code), error.message)
        if not known:
            self._call.stream.connection.charge_reset()

    # --- frames ---

    def _take(self, frame: mesh_pb.LinkRequest, answering: Answering) -> None:
        if frame.HasField("hello"):
            raise CallError(Code.INVALID_ARGUMENT, "a hello is said once")
        for question in frame.questions:
            if question.id <= self._last_question:
                text = f"expected a question above {self._last_question}, got {question.id}"
                raise CallError(Code.INVALID_ARGUMENT, text)
            self._last_question = question.id
        answering.tell(frame.news)
        if frame.questions:
            answering.put(frame.questions)
            self._regulate()

    def _regulate(self) -> None:
        """Holds the opener's frames while there is enough to do, or to be read by it."""
        answering = self._answering
        hold = answering is None or answering.busy or not self._has_room()
        if hold and not self._held:
            self._held = True
            self._call.hold()
        elif self._held and not hold and not self._over:
            self._held = False
            self._call.release()

    # --- answers ---

    def _has_room(self) -> bool:
        return self._out_bytes < self._host.options.queue_bytes

    def _send(self, piece: bytes) -> None:
        self._out.append(piece)
        self._out_bytes += len(piece)
        if self._out_bytes > _OVERFLOW * self._host.options.queue_bytes:
            # What was done cannot be told: it is as if it had been lost under way.
            text = f"{self._out_bytes} bytes of answers wait to be read: read faster, or ask less"
            self._refuse(CallError(Code.RESOURCE_EXHAUSTED, text))
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        out, call = self._out, self._call
        while out and call.room():
            frame: list[bytes] = []
            room = _FRAME_BYTES
            while out and (not frame or len(out[0]) <= room):
                room -= len(out[0])
                frame.append(out.popleft())
            self._out_bytes -= _FRAME_BYTES - room
            call.send(b"".join(frame))
        if self._held and self._answering is not None and self._has_room():
            self._answering.go_on()
            self._regulate()
