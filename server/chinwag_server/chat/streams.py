"""All open device streams of a node: who may open one, when one must end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol

import protovalidate

from chinwag.chat.v1 import connect_pb2
from chinwag_server.chat import frames
from chinwag_server.chat.catchup import CatchUp, Stamp
from chinwag_server.chat.guidance import overloaded
from chinwag_server.chat.hub import Hub
from chinwag_server.chat.ids import RandomBytes
from chinwag_server.chat.listeners import Listeners
from chinwag_server.chat.outbox import Flusher
from chinwag_server.chat.sends import Answer
from chinwag_server.chat.stream import DeviceStream, StreamLimits
from chinwag_server.clock import Clock
from chinwag_server.rpc.admission import Admission
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.closing import Reason, closing
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.pushed import Sink
from chinwag_server.rpc.ratelimit import Rate
from chinwag_server.rpc.validation import field_problem

SWEEP_S = 1.0
# Pages that are read for devices that catch up, at one time.
PAGES_AT_ONCE = 8
DRAIN_JITTER_S = 5.0
# How long after its catch-up a stream may be told what it has read already.
LATE_S = 60.0
DRAIN_STEP_S = 0.05
# Of streams that end evenly spread over a time: they need not wait long to come back elsewhere.
MOVE_JITTER_S = 0.1
RESUME_JITTER_S = 5.0

Unwatch = Callable[[], None]
# (user_id, device_id, cursor, callback with a serialised AccountEvent) -> stops watching
WatchAccount = Callable[[str, str, str, Callable[[bytes], None]], Unwatch]
Authenticate = Callable[[str], Awaitable[Caller]]


class Sender(Protocol):
    """`Sends`, or what stands before it."""

    async def send(
        self, caller: Caller, requests: Sequence[connect_pb2.SendMessageRequest], answer: Answer
    ) -> None: ...


class Signals(Protocol):
    """What a stream asks of `Marks`, or of what stands before it."""

    @property
    def telling(self) -> bool: ...

    async def move(
        self, caller: Caller, channel_id: str, read_id: int, delivered_id: int
    ) -> object: ...

    async def typing(
        self, caller: Caller, channel_id: str, thread_root_id: int, active: bool
    ) -> None: ...


class RateLimits(Protocol):
    """Seconds to wait until so many more may come; 0: they are taken."""

    def take_frame(self, caller: Caller) -> float: ...

    def take_sends(self, caller: Caller, count: int) -> float: ...


class Streams:
    """The open streams, by user and device.

    Args:
        admission: How many are opened; None: as many as come.
        max_user_streams: Streams that one user may have open.
        max_sends_per_frame: Sends in a frame; of a larger one none is taken.
        authenticate: Verifies an access token for renew_token.
        watch_account: Subscribes a stream to its account's events, or None.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        listeners: Listeners,
        sends: Sender,
        marks: Signals,
        catch_up: CatchUp,
        clock: Clock,
        random_bytes: RandomBytes,
        limits: StreamLimits,
        advertised: connect_pb2.Limits,
        rates: RateLimits,
        admission: Admission | None,
        authenticate: Authenticate,
        watch_account: WatchAccount | None,
        generation: int,
        server_version: str,
        max_user_streams: int = 20,
        max_sends_per_frame: int = 100,
    ) -> None:
        self._hub = hub
        self.listeners = listeners
        self.sends = sends
        self.marks = marks
        self.catch_up = catch_up
        self.clock = clock
        self.limits = limits
        self.advertised = advertised
        self.authenticate = authenticate
        self.generation = generation
        self.server_version = server_version
        self.flusher = Flusher()
        self.paging = asyncio.Semaphore(PAGES_AT_ONCE)
        self.max_sends_per_frame = max_sends_per_frame
        self.take_frame = rates.take_frame
        self.take_sends = rates.take_sends
        self.admission = admission or Admission(Rate(0, 1), clock)
        # Called with each (user, device, time of its hello by `now_us`) that is caught up.
        self.came: Callable[[str, str, int], None] = lambda _user, _device, _time_us: None
        self.now_us: Callable[[], int] = clock.time_us
        self._random_bytes = random_bytes
        self._watch_account = watch_account
        self._unwatch: dict[DeviceStream, Unwatch] = {}
        self._max_user_streams = max_user_streams
        self._validator = protovalidate.Validator()
        # In the order in which they came: a simulation can repeat what follows.
        self._open: dict[DeviceStream, None] = {}
        self._by_device: dict[tuple[str, str], DeviceStream] = {}
        self._user_streams: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def callers(self) -> list[Caller]:
        """Who has a stream open."""
        return [stream.caller for stream in self._open]

    # --- opening ---

    def open(self, caller: Caller, sink: Sink) -> DeviceStream:
        """A stream that has connected and has yet to say hello."""
        stream = DeviceStream(caller, sink, self)
        self._open[stream] = None
        if self._sweeper is None:
            self._sweeper = asyncio.ensure_future(self._sweep())
        if self._draining:
            self._close_draining(stream)
        elif (when := self.admission.take()) is not None:
            stream.close(*overloaded(when))
        return stream

    def new_session_id(self) -> str:
        """A name for a stream in logs."""
        return self._random_bytes(8).hex()

    def welcome(self, stream: DeviceStream) -> None:
        """Takes a stream in after its hello; an older one of the same device is closed.

        Raises:
            Refusal: STREAM_LIMIT.
        """
        user_id, device_id = stream.caller.user_id, stream.caller.device_id
        key = (user_id, device_id)
        now_us = self.now_us()
        self.replace(user_id, device_id, now_us + 1)
        stream.came_us = now_us
        if self._user_streams.get(user_id, 0) >= self._max_user_streams:
            raise Refusal(
                "STREAM_LIMIT",
                f"the user has {self._max_user_streams} open streams, as many as one may have",
                retry_after=30.0,
            )
        self._user_streams[user_id] = self._user_streams.get(user_id, 0) + 1
        self._by_device[key] = stream
        self.listeners.join(user_id, stream)

    def caught_up(self, stream: DeviceStream) -> None:
        """A stream has passed on all that was missing. Only now others hear that its device is
        here: a hello may have lain unread in a node that stood still, while its device gave up and
        went elsewhere."""
        if stream.device_id:
            self.came(stream.caller.user_id, stream.device_id, stream.came_us)

    def replace(self, user_id: str, device_id: str, before_us: int) -> None:
        """Closes a device's stream that came before a time: it has opened another one, here or at
        another node."""
        old = self._by_device.get((user_id, device_id))
        if old is not None and device_id and old.came_us < before_us:
            old.close(closing(Reason.CLOSE_REASON_REPLACED, reconnect=False), drop=True)

    def watch_account(self, stream: DeviceStream, cursor: str) -> None:
        """Subscribes a stream to its account's events."""
        if self._watch_account is not None and not stream.closed:
            self._unwatch[stream] = self._watch_account(
                stream.caller.user_id,
                stream.caller.device_id,
                cursor,
                lambda event: stream.offer_account(frames.account(event)),
            )

    def remove(self, stream: DeviceStream) -> None:
        """Forgets a stream that has ended."""
        self._open.pop(stream, None)
        if unwatch := self._unwatch.pop(stream, None):
            unwatch()
        if not stream.helloed:
            return
        user_id, device_id = stream.caller.user_id, stream.caller.device_id
        self.listeners.leave(user_id, stream)
        if self._by_device.get((user_id, device_id)) is stream:
            del self._by_device[user_id, device_id]
        left = self._user_streams.get(user_id, 1) - 1
        if left:
            self._user_streams[user_id] = left
        else:
            self._user_streams.pop(user_id, None)

    def stamp(self) -> Stamp:
        """A resume stamp for a live stream: everything that it covers is queued; its number is
        below 0 if that cannot be said this moment."""
        self._hub.flush_receipts()
        now = self.catch_up.now()
        return Stamp(now.generation, -1) if self.marks.telling else now

    def violations(self, frame: connect_pb2.ConnectRequest) -> list[tuple[str, str]]:
        """The broken rules of a frame, as (field path, problem)."""
        found = self._validator.collect_violations(frame)
        return [field_problem(violation) for violation in found] if found else []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a stream's background work to its end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- ending ---

    def close_sessions(self, user_id: str, device_id: str | None, reason: Reason.ValueType) -> None:
        """Ends a device's stream at once, or with None all of a user's: the session was revoked,
        the account banned or deleted."""
        refusal = Refusal("SESSION_REVOKED", "the session was ended: log in again")
        for stream in tuple(self._open):
            if stream.caller.user_id == user_id and device_id in (None, stream.caller.device_id):
                stream.close(closing(reason, reconnect=False, refusal=refusal), refusal, drop=True)

    def close_key(self, api_key_id: str) -> None:
        """Ends the streams that an API key has open on behalf of users: it was revoked."""
        refusal = Refusal("SESSION_REVOKED", "the API key was revoked")
        for stream in tuple(self._open):
            if stream.caller.api_key_id == api_key_id:
                stream.close(
                    closing(Reason.CLOSE_REASON_SESSION_REVOKED, reconnect=False, refusal=refusal),
                    refusal,
                    drop=True,
                )

    def resume(self, user_ids: Collection[str] | None) -> None:
        """Has devices come back and catch up, of users or (None) of all: something that they were
        to be told may be lost."""
        some = None if user_ids is None else frozenset(user_ids)
        refusal = Refusal("OVERLOADED", "something may have been missed: resume from the cursors")
        for stream in tuple(self._open):
            if stream.helloed and (some is None or stream.caller.user_id in some):
                close = closing(
                    Reason.CLOSE_REASON_OVERLOADED,
                    reconnect=True,
                    refusal=refusal,
                    jitter_s=RESUME_JITTER_S,
                )
                stream.close(close, refusal)

    async def _sweep(self) -> None:
        # One timer for all streams: an idle device costs none of its own.
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.clock.monotonic()
            now_us = self.clock.time_us()
            for stream in tuple(self._open):
                self._check(stream, now, now_us)

    def _check(self, stream: DeviceStream, now: float, now_us: int) -> None:
        expires_us = stream.token_expire_time_us
        if not stream.helloed:
            if now - stream.opened_at > self.limits.hello_timeout_s:
                refusal = Refusal("HELLO_TIMEOUT", "no hello in time")
                stream.close(
                    closing(Reason.CLOSE_REASON_PROTOCOL_ERROR, reconnect=True, refusal=refusal),
                    refusal,
                )
            return
        if now - stream.opened_at > LATE_S:
            stream.forget_catch_up()
        if now - stream.heard > self.limits.idle_timeout_s:
            stream.close(closing(Reason.CLOSE_REASON_IDLE, reconnect=True))
        elif expires_us and now_us > expires_us:
            refusal = Refusal("TOKEN_EXPIRED", "the access token has ended: refresh it")
            stream.close(
                closing(Reason.CLOSE_REASON_TOKEN_EXPIRED, reconnect=True, refusal=refusal),
                refusal,
            )

    def _close_draining(self, stream: DeviceStream) -> None:
        stream.close(closing(Reason.CLOSE_REASON_DRAINING, reconnect=True, jitter_s=DRAIN_JITTER_S))

    def drain(self) -> None:
        """Ends every stream with guidance, after what is queued for it."""
        self._draining = True
        for stream in tuple(self._open):
            self._close_draining(stream)

    async def drain_slowly(self, seconds: float) -> None:
        """Ends the streams that are open now with guidance, evenly spread over a time, so that
        other nodes are not met by all of them at once; new ones are ended as they come."""
        self._draining = True
        streams = [stream for stream in self._open if stream.helloed]
        slices = max(1, min(len(streams), int(seconds / DRAIN_STEP_S)))
        for number in range(slices):
            for stream in streams[number::slices]:
                if not stream.closed:
                    reason = Reason.CLOSE_REASON_DRAINING
                    stream.close(closing(reason, reconnect=True, jitter_s=MOVE_JITTER_S))
            await asyncio.sleep(seconds / slices if streams else 0)

    async def stop(self) -> None:
        """Ends the background work."""
        tasks = [*self._tasks, *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sweeper = None
