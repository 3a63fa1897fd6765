"""All open streams of one method on a node: who may open one, when one must end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.closing import Reason, closing
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.framed_stream import FramedStream, Write

SWEEP_S = 1.0
DRAIN_JITTER_S = 5
# How long a closed stream's last frame may wait for a reader that does not read.
FINISH_S = 5.0

Authenticate = Callable[[str], Awaitable[Caller]]
Limits_co = TypeVar("Limits_co", bound="StreamLimits", covariant=True)


class StreamLimits(Protocol):
    """What a stream may cost."""

    @property
    def frame_bytes(self) -> int:
        """The largest frame that is taken."""

    @property
    def bad_frames(self) -> int:
        """Refused frames after which the stream is closed."""

    @property
    def user_streams(self) -> int:
        """Open streams of a user."""

    @property
    def hello_timeout_s(self) -> float:
        """How long hello may take to come."""

    @property
    def idle_timeout_s(self) -> float:
        """A stream from which nothing comes for so long is closed."""


class FramedStreams(Generic[Limits_co]):
    """The open streams, by user and device.

    Args:
        authenticate: Verifies an access token for renew_token.
        take_frame: Seconds to wait until one more frame may come; 0: it is taken.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limits: Limits_co,
        authenticate: Authenticate,
        take_frame: Callable[[Caller], float] = lambda _caller: 0.0,
        server_version: str = "",
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.authenticate = authenticate
        self.take_frame = take_frame
        self.server_version = server_version
        self._open: set[FramedStream[Any]] = set()
        # Those that have said hello, by user.
        self._by_user: dict[str, set[FramedStream[Any]]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._draining = False

    def make(self, caller: Caller) -> FramedStream[Any]:
        """A stream that has yet to say hello."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._open)

    def callers(self) -> list[Caller]:
        """Who has a stream open."""
        return [stream.caller for stream in self._open]

    async def serve(self, caller: Caller, incoming: AsyncIterator[bytes], write: Write) -> None:
        """Runs a stream until either side ends it.

        Raises:
            Refusal: The status with which the call ends, if it is not OK.
        """
        stream = self.make(caller)
        self._open.add(stream)
        if self._sweeper is None:
            self._sweeper = asyncio.ensure_future(self._sweep())
        reading = asyncio.ensure_future(stream.read(incoming))
        writing = asyncio.ensure_future(stream.write(write))
        loop = asyncio.get_running_loop()
        stream.on_close = lambda: loop.call_later(FINISH_S, writing.cancel)
        if self._draining:
            _close_draining(stream)
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                # The client has ended its side, or a close waits to be written.
                stream.gone()
                stream.outgoing.end()
                await asyncio.wait({writing}, timeout=FINISH_S)
        finally:
            stream.gone()
            self._forget(stream)
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
        if stream.refusal is not None:
            raise stream.refusal

    def welcome(self, stream: FramedStream[Any]) -> None:
        """Takes a stream in after its hello; an older one of the same device is closed.

        Raises:
            Refusal: STREAM_LIMIT.
        """
        caller = stream.caller
        mine = self._by_user.setdefault(caller.user_id, set())
        for other in tuple(mine):
            if caller.device_id and other.caller.device_id == caller.device_id:
                other.close(closing(Reason.CLOSE_REASON_REPLACED, reconnect=False), None, drop=True)
        if sum(not other.closed for other in mine) >= self.limits.user_streams:
            text = f"the user has {self.limits.user_streams} open streams, as many as one may have"
            raise Refusal("STREAM_LIMIT", text, retry_after=30.0)
        mine.add(stream)

    def _forget(self, stream: FramedStream[Any]) -> None:
        self._open.discard(stream)
        mine = self._by_user.get(stream.caller.user_id)
        if mine is not None:
            mine.discard(stream)
            if not mine:
                del self._by_user[stream.caller.user_id]

    # --- ending ---

    def close_sessions(
        self,
        user_id: str,
        device_id: str | None,
        reason: Reason.ValueType = Reason.CLOSE_REASON_SESSION_REVOKED,
    ) -> None:
        """Ends a device's stream at once, or with None all of a user's."""
        banned = reason == Reason.CLOSE_REASON_BANNED
        refusal = (
            Refusal("BANNED", "the team has banned this user")
            if banned
            else Refusal("SESSION_REVOKED", "the session was ended: log in again")
        )
        for stream in tuple(self._open):
            caller = stream.caller
            if caller.user_id == user_id and device_id in (None, caller.device_id):
                stream.close(closing(reason, reconnect=False, refusal=refusal), refusal, drop=True)

    def close_key(self, api_key_id: str) -> None:
        """Ends the streams of an API key at once."""
        refusal = Refusal("TOKEN_INVALID", "the API key was revoked")
        close = closing(Reason.CLOSE_REASON_SESSION_REVOKED, reconnect=False, refusal=refusal)
        for stream in tuple(self._open):
            if stream.caller.api_key_id == api_key_id:
                stream.close(close, refusal, drop=True)

    def drain(self) -> None:
        """Ends every stream with guidance, after what waits for it."""
        self._draining = True
        for stream in tuple(self._open):
            _close_draining(stream)

    async def stop(self) -> None:
        """Ends the background work."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None

    async def _sweep(self) -> None:
        # One timer for all streams: an idle one costs none of its own.
        while True:
            await asyncio.sleep(SWEEP_S)
            self.check_all()

    def check_all(self) -> None:
        """Ends the streams whose time is over."""
        now, now_us = self.clock.monotonic(), self.clock.time_us()
        for stream in tuple(self._open):
            self._check(stream, now, now_us)

    def _check(self, stream: FramedStream[Any], now: float, now_us: int) -> None:
        limits = self.limits
        if not stream.helloed:
            if now - stream.opened_at > limits.hello_timeout_s:
                refusal = Refusal("HELLO_TIMEOUT", "no hello in time")
                stream.close(
                    closing(Reason.CLOSE_REASON_PROTOCOL_ERROR, reconnect=False, refusal=refusal),
                    refusal,
                )
        elif now - stream.heard > limits.idle_timeout_s:
            stream.close(closing(Reason.CLOSE_REASON_IDLE, reconnect=True), None)
        elif stream.expire_time_us and now_us > stream.expire_time_us:
            refusal = Refusal("TOKEN_EXPIRED", "the access token has ended: refresh it")
            stream.close(
                closing(Reason.CLOSE_REASON_TOKEN_EXPIRED, reconnect=True, refusal=refusal),
                refusal,
            )


def _close_draining(stream: FramedStream[Any]) -> None:
    close = closing(Reason.CLOSE_REASON_DRAINING, reconnect=True, jitter_s=DRAIN_JITTER_S)
    stream.close(close, None)
