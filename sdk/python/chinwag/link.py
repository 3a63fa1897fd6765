"""Carries a `DeviceProtocol` over grpc.aio: reads, writes, waits, and connects again.

A client costs one task (the reader) and one timer; writing and fetching take a task only while
there is something to write or fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc import aio

from chinwag.calls import Calls, Credential
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, chat_service_pb2_grpc, connect_pb2
from chinwag.clock import Clock
from chinwag.errors import ChinwagError, ClientClosed, Unauthenticated, from_rpc_error
from chinwag.events import Event
from chinwag.inbox import Inbox
from chinwag.outbox import Outcome
from chinwag.positions import Fetch
from chinwag.protocol import DeviceProtocol

log = logging.getLogger(__name__)

FETCH_ENTRIES = 1000


class Link:
    """The skin of one device's streams.

    Args:
        channel: For calls beside the stream.
        to: Gives the channel for a stream to the address of a plan.
        leave: Told when a stream to an address has ended.
        on_events: Gets each frame's events with its size in bytes.
        on_outcomes: Gets what became of sends.
        on_end: Called once, when the protocol has closed for good.
    """

    def __init__(
        self,
        protocol: DeviceProtocol,
        channel: aio.Channel,
        calls: Calls,
        credential: Credential,
        clock: Clock,
        inbox: Inbox,
        *,
        to: Callable[[str], aio.Channel],
        leave: Callable[[str], None],
        on_events: Callable[[Sequence[Event], int], None],
        on_outcomes: Callable[[Sequence[Outcome]], None],
        on_end: Callable[[], None],
    ) -> None:
        self._protocol = protocol
        self._stub = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._calls = calls
        self._credential = credential
        self._clock = clock
        self._inbox = inbox
        self._to = to
        self._leave = leave
        self._on_events = on_events
        self._on_outcomes = on_outcomes
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._call: aio.StreamStreamCall[Any, Any] | None = None
        self._frames: deque[connect_pb2.ConnectRequest] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._is_soon = False
        self._waiting: asyncio.Future[None] | None = None
        self._token = ""
        self._size = 0
        self._runner = self._loop.create_task(self._run())

    # --- what the client calls ---

    def soon(self) -> None:
        """The protocol has got something to do: does it, with what else comes in this turn of the
        loop, in one frame."""
        if not self._is_soon:
            self._is_soon = True
            self._loop.call_soon(self._pump)

    def room(self) -> None:
        """The inbox has room again."""
        self._protocol.resume()
        self._wake()
        self.soon()

    async def close(self) -> None:
        """Ends the stream and everything that runs."""
        self._protocol.fail(ClientClosed("the client was closed"))
        self._runner.cancel()
        await asyncio.gather(self._runner, *self._tasks, return_exceptions=True)

    # --- doing what the protocol says ---

    def _pump(self) -> None:
        self._is_soon = False
        protocol = self._protocol
        output = protocol.take()
        if output.events:
            self._on_events(output.events, self._size)
        self._size = 0
        if output.outcomes:
            self._on_outcomes(output.outcomes)
        for fetch in output.fetches:
            self._spawn(self._fetch(fetch))
        if protocol.token_wanted:
            protocol.token_wanted = False
            self._spawn(self._renew())
        call = self._call
        if call is not None:
            if output.frames:
                self._frames.extend(output.frames)
                if self._writer is None:
                    self._writer = self._spawn(self._write(call))
            if protocol.drop:
                call.cancel()
                self._wake()
            elif self._waiting is not None and len(protocol.outbox):
                self._wake()  # answers are wanted, and come only by reading
        self._set_timer()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _set_timer(self) -> None:
        at = self._protocol.next_tick
        # A timer that rings too early costs less than a new one for each frame.
        if self._timer is not None:
            assert self._timer_at is not None
            if at is not None and self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            delay = max(at - self._clock.monotonic(), 0.0)
            self._timer = self._loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._protocol.tick()
        self._pump()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # --- the stream ---

    async def _run(self) -> None:
        protocol = self._protocol
        try:
            while protocol.error is None:
                delay = protocol.retry_at - self._clock.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
                protocol.connecting()
                self._pump()
                address = protocol.plan.address
                error = await self._stream()
                protocol.connection_lost(error)
                self._leave(address)
                self._pump()
        except Exception as error:
            log.exception("the client failed")
            protocol.fail(ChinwagError(f"the client failed: {error!r}", reason="INTERNAL"))
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            self._pump_last()

    def _pump_last(self) -> None:
        output = self._protocol.take()
        if output.events:
            self._on_events(output.events, 0)
        if output.outcomes:
            self._on_outcomes(output.outcomes)
        self._on_end()

    async def _stream(self) -> ChinwagError | None:
        """One stream from its opening to its end; the status with which it ended."""
        plan = self._protocol.plan
        try:
            if plan.new_token:
                await self._credential.rejected(self._token)
            self._token = await self._credential.token()
            metadata = (("authorization", f"Bearer {self._token}"),)
            stub = chat_service_pb2_grpc.ChatServiceStub(self._to(plan.address))
            self._call = stub.Connect(metadata=metadata)
            self._writer = None  # one of the last stream may still be on its way out
            self._protocol.connected()
            self._pump()
            await self._read(self._call)
        except grpc.RpcError as error:
            return from_rpc_error(error)
        except ChinwagError as error:
            return error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task but the call was cancelled, by `_pump`.
        finally:
            if self._call is not None:
                self._call.cancel()
                self._call = None
            self._frames.clear()
        return None

    async def _read(self, call: aio.StreamStreamCall[Any, Any]) -> None:
        protocol = self._protocol
        while not protocol.drop:
            if self._inbox.is_full and not await self._may_go_on():
                return
            frame = await call.read()
            if not isinstance(frame, connect_pb2.ConnectResponse):
                return  # aio.EOF
            self._size += frame.ByteSize()
            protocol.receive(frame)
            self._pump()

    async def _may_go_on(self) -> bool:
        """The application does not read. So nothing is read here either, and the server learns of
        it; unless the application waits for sends, whose answers come behind the events.

        Returns:
            Whether to read on; False: the stream is to be ended.
        """
        protocol = self._protocol
        if not len(protocol.outbox):
            protocol.pause()
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
                protocol.unpause()
        if self._inbox.is_full:
            protocol.shedding = True
        return not protocol.drop

    async def _write(self, call: aio.StreamStreamCall[Any, Any]) -> None:
        try:
            while self._frames and self._call is call:
                await call.write(self._frames.popleft())
        except (grpc.RpcError, aio.UsageError, asyncio.InvalidStateError):
            pass  # the stream has ended: the reader learns why
        finally:
            if self._writer is asyncio.current_task():
                self._writer = None

    # --- beside the stream ---

    async def _renew(self) -> None:
        try:
            await self._credential.rejected(self._token)
            self._token = await self._credential.token()
        except Unauthenticated as error:
            self._protocol.fail(error)
        except ChinwagError:
            self._protocol.renewal_failed()
        else:
            self._protocol.renew_token(self._token)
        self.soon()

    async def _fetch(self, fetch: Fetch) -> None:
        cursor = fetch.cursor
        request = chat_service_pb2.SyncRequest(
            cursors=[
                channel_pb2.Cursor(
                    channel_id=cursor.channel_id, generation=cursor.generation, id=cursor.id
                )
            ],
            cursors_only=True,
            max_entries=FETCH_ENTRIES,
        )
        try:
            answer = await self._calls(self._stub.Sync, request)
        except ChinwagError as error:
            log.warning("a hole in %s could not be fetched: %s", cursor.channel_id, error)
            self._protocol.fetch_failed(fetch.number)
        else:
            self._protocol.fetched(fetch.number, answer)
        self.soon()
