"""A request_id makes a call once, also when who called has gone away meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.requests import Remember, Requests
from chinwag_server.clock import SystemClock
from chinwag_server.rpc.caller import Caller
from tests.server.chat.rules import refused

CALLER = Caller(user_id="ann", device_id="d")
REQUEST = pb.LeaveChannelRequest(channel_id="c", request_id="r")


class Work:
    """A call whose commit takes a moment."""

    def __init__(self) -> None:
        self.store = MemoryChatStore(delay=0.05)
        self.requests = Requests(self.store, SystemClock())
        self.done = 0

    async def call(self, request: Message = REQUEST) -> Message:
        return await self.requests.once(CALLER, request, pb.LeaveChannelResponse, self._run)

    async def _run(self, remember: Remember) -> pb.LeaveChannelResponse:
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_commit(_stamp: int, _error: Exception | None) -> None:
            self.done += 1
            if not committed.done():
                committed.set_result(None)

        answer = pb.LeaveChannelResponse()
        self.store.submit(remember(answer), on_commit)
        await committed
        return answer


async def test_a_repeat_after_who_called_went_away() -> None:
    work = Work()
    first = asyncio.ensure_future(work.call())
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    # What was submitted is not stored yet, and will be.
    await work.call()
    await asyncio.sleep(0.1)
    assert work.done == 1


async def test_who_waits_for_another_may_go_away_too() -> None:
    work = Work()
    calls = [asyncio.ensure_future(work.call()) for _ in range(3)]
    await asyncio.sleep(0.01)
    calls[1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert [call.cancelled() for call in calls] == [False, True, False]
    assert work.done == 1
    other = pb.LeaveChannelRequest(channel_id="c", request_id="s")
    await work.call(other)
    assert work.done == 2
    await refused("ID_REUSED", work.call(pb.JoinChannelRequest(channel_id="c", request_id="r")))
