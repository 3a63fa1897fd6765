"""The `context` of a servicer's method, as those know it that were written for grpc.aio.

Codes may be `grpc.StatusCode`s (their numbers are read, grpc is not imported) or numbers. What a
method says here becomes the "Response-Headers" and "Trailers" of the gRPC protocol document, and
its codes are those of statuscodes.md.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from chinwag_server.wire.metadata import Metadata
from chinwag_server.wire.running import Running
from chinwag_server.wire.status import CallError, Code

log = logging.getLogger(__name__)

Pairs = Sequence[tuple[str, str | bytes]] | Mapping[str, str | bytes]

_COMMON = "commonName"
_ALTERNATIVE = "x509_subject_alternative_name"

# What grpc calls encodings: grpc.Compression.
_ENCODINGS = {0: None, 1: "deflate", 2: "gzip"}


class Aborted(CallError):
    """`Context.abort` was called."""


class Context:
    """What a method may ask and say of its call."""

    def __init__(
        self,
        running: Running,
        parse: Callable[[bytes], Any],
        serialize: Callable[[Any], bytes],
    ) -> None:
        self._running = running
        self._call = running.call
        self._parse = parse
        self._serialize = serialize
        self._initial: Metadata = ()
        self._trailing: Metadata = ()
        self._code: int | None = None
        self._details = ""
        self._plain_next = False
        self._callbacks: list[Callable[[Context], None]] = []
        self._deadline: float | None = None
        if self._call.timeout_s is not None:
            self._deadline = asyncio.get_running_loop().time() + self._call.timeout_s

    # --- messages ---

    async def read(self) -> Any:
        """The next request; after the last `grpc.aio.EOF`, or None where grpc is not used."""
        data = await self._running.read()
        return _end_of_requests() if data is None else self._parse(data)

    async def write(self, message: Any) -> None:
        """Sends a response, when those before it have left."""
        plain, self._plain_next = self._plain_next, False
        await self._running.write(self._serialize(message), plain=plain)

    # --- metadata and status ---

    def invocation_metadata(self) -> Metadata:
        """What the client sent."""
        return self._call.metadata

    async def send_initial_metadata(self, pairs: Pairs) -> None:
        """Sends the response's head with these."""
        self._call.send_headers(_metadata(pairs))

    def set_trailing_metadata(self, pairs: Pairs) -> None:
        """Goes with the status."""
        self._trailing = _metadata(pairs)

    def trailing_metadata(self) -> Metadata:
        """What was set."""
        return self._trailing

    def set_code(self, code: Any) -> None:
        """The status of the call, when the method has returned."""
        self._code = number_of(code)

    def set_details(self, details: str) -> None:
        """The message of the status."""
        self._details = details

    def code(self) -> int:
        """What was set; 0 if nothing was."""
        return self._code or 0

    def details(self) -> str:
        """What was set."""
        return self._details

    async def abort(self, code: Any, details: str = "", trailing_metadata: Pairs = ()) -> NoReturn:
        """Ends the call with a status that is not OK."""
        if trailing_metadata:
            self._trailing = _metadata(trailing_metadata)
        raise Aborted(number_of(code) or Code.UNKNOWN, details or self._details)

    async def abort_with_status(self, status: Any) -> NoReturn:
        """Ends the call with a `grpc.Status`."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    # --- compression ---

    def set_compression(self, compression: Any) -> None:
        """A `grpc.Compression`, or the encoding's name; before the first response."""
        if not isinstance(compression, str):
            compression = _ENCODINGS[int(getattr(compression, "value", compression))]
        self._call.compress(compression)

    def disable_next_message_compression(self) -> None:
        """Sends the next response as it is."""
        self._plain_next = True

    # --- about the call ---

    def peer(self) -> str:
        """The client's address, as grpc writes it, without a port."""
        address = self._call.peer
        if address == "unix":
            return "unix:"
        return f"ipv6:[{address}]:0" if ":" in address else f"ipv4:{address}:0"

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What TLS says of the client, under grpc's names; empty without TLS."""
        tls = self._call.stream.connection.tls
        if tls is None:
            return {}
        found: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
        certificate = tls.getpeercert(binary_form=True)
        if certificate is None:
            return found
        found["x509_pem_cert"] = [ssl.DER_cert_to_PEM_cert(certificate).encode()]
        told: Any = tls.getpeercert() or {}
        names = [value for part in told.get("subject", ()) for key, value in part if key == _COMMON]
        if names:
            found["x509_common_name"] = [name.encode() for name in names]
        others = [value.encode() for _, value in told.get("subjectAltName", ())]
        if others:
            found[_ALTERNATIVE] = others
        return found

    def peer_identity_key(self) -> str | None:
        """Under which name `auth_context` has the client's identities; None: it has none."""
        known = self.auth_context()
        return next((key for key in (_ALTERNATIVE, "x509_common_name") if key in known), None)

    def peer_identities(self) -> Sequence[bytes] | None:
        """Who the client's certificate says that it is; None: it has none."""
        key = self.peer_identity_key()
        return self.auth_context()[key] if key is not None else None

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def cancelled(self) -> bool:
        """Whether the client has gone."""
        return self._running.ended_by is not None

    def done(self) -> bool:
        """Whether the call is over."""
        return self._call.over

    def add_done_callback(self, callback: Callable[[Context], None]) -> None:
        """Called when the call is over."""
        self._callbacks.append(callback)

    # --- of the server ---

    def finish(self, code: int = Code.OK, message: str = "") -> None:
        """Ends the call; a code that the method has set stands."""
        if code == Code.OK and self._code is not None:
            code, message = self._code, self._details
        try:
            self._call.finish(code, message, self._trailing)
        except ValueError:
            log.exception("%s set trailing metadata that cannot be sent", self._call.path)
            self._call.finish(Code.INTERNAL, "the server failed")

    def tell_done(self) -> None:
        """The call is over."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


def _end_of_requests() -> Any:
    # Whoever compares with it has imported it.
    aio = sys.modules.get("grpc.aio")
    return None if aio is None else aio.EOF


def number_of(code: Any) -> int:
    """The number of a status code, in either of its forms."""
    return code if isinstance(code, int) else int(code.value[0])


def _metadata(pairs: Pairs) -> Metadata:
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple((key, value) for key, value in items)
