"""Sends on their way to the owners of their channels, each channel's in order."""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chinwag.chat.v1 import connect_pb2
from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.routed.callers import put_caller
from chinwag_server.chat.routed.owners import WAIT_S, Owners, Until, nobody_owns, owner_of
from chinwag_server.chat.sends import FOR_A_MOMENT, Answer, Sent
from chinwag_server.mesh.links import Links, Unreachable
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

log = logging.getLogger(__name__)

ASK_S = 5.0
BATCH = 100
# Sends of all clients of this node that are not answered yet.
MAX_WAITING = 20_000


class Sender(Protocol):
    """`chat.sends.Sends`, or what stands for it."""

    async def send(
        self, caller: Caller, requests: Sequence[connect_pb2.SendMessageRequest], answer: Answer
    ) -> None: ...


@dataclass(slots=True, order=True)
class _Item:
    number: int
    caller: Caller = field(compare=False)
    request: connect_pb2.SendMessageRequest = field(compare=False)
    answer: Callable[[Sent | Refusal], None] = field(compare=False)
    until: Until = field(compare=False)


@dataclass(slots=True)
class _Lane:
    """A channel's sends that are not answered. While one waits, all behind it wait.

    Attributes:
        again: The owner was asked in vain.
        refused: By caller a send that was refused for a moment, and the last that had come by then:
            those between are not sent again, they would overtake it.
    """

    channel_id: str
    under_way: int = 0
    waiting: deque[_Item] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    again: bool = False
    refused: dict[Caller, tuple[int, int]] = field(default_factory=dict)


class RoutedSends:
    """Passes sends on to the owners of their channels, also when those change.

    One batch of a channel is under way to another node at a time: so a send that is to be repeated
    has overtaken nothing.

    Args:
        local: For channels that this node owns.
    """

    def __init__(self, owners: Owners, links: Links, local: Sender) -> None:
        self._owners = owners
        self._links = links
        self._local = local
        self._lanes: dict[str, _Lane] = {}
        self._number = 0
        self._open = 0

    async def send(
        self, caller: Caller, requests: Sequence[connect_pb2.SendMessageRequest], answer: Answer
    ) -> None:
        """Takes sends in the order in which they come. Returns before they are stored."""
        until = Until(WAIT_S)
        here: list[tuple[_Lane, _Item]] = []
        for index, request in enumerate(requests):
            if self._open >= MAX_WAITING:
                answer(index, Refusal("OVERLOADED", "too many sends wait", retry_after=1.0))
                continue
            self._number += 1
            self._open += 1
            item = _Item(
                self._number,
                caller,
                request,
                lambda outcome, index=index: answer(index, outcome),  # type: ignore[misc]
                until,
            )
            channel_id = request.channel_id
            lane = self._lanes.get(channel_id)
            if lane is None:
                lane = self._lanes[channel_id] = _Lane(channel_id)
            if lane.task is None and not lane.waiting and self._owners.owns(channel_id):
                lane.under_way += 1
                here.append((lane, item))
            else:
                lane.waiting.append(item)
                self._go_on(lane)
        if here:
            await self._send_here(caller, here)

    async def _send_here(self, caller: Caller, items: Sequence[tuple[_Lane, _Item]]) -> None:
        left = set(range(len(items)))

        def answered(index: int, outcome: Sent | Refusal) -> None:
            if index not in left:
                return
            left.discard(index)
            lane, item = items[index]
            lane.under_way -= 1
            unstored = isinstance(outcome, Refusal) and outcome.reason == "STORAGE_UNAVAILABLE"
            if unstored and not self._owners.owns(lane.channel_id) and item.until.left:
                self._wait_again(lane, item)
            else:
                self._answered(lane, item, outcome)
            self._go_on(lane)

        def fail() -> None:
            # Those behind them in their lanes must not wait for ever.
            for index in sorted(left):
                answered(index, nobody_owns())

        try:
            await self._local.send(caller, [item.request for _, item in items], answered)
        except asyncio.CancelledError:
            fail()  # the device has gone, and with it whoever handled its frame
            raise
        except Exception:
            log.exception("sends failed")
            fail()

    def _answered(self, lane: _Lane, item: _Item, outcome: Sent | Refusal) -> None:
        self._done(item, outcome)
        if not isinstance(outcome, Refusal) or outcome.reason not in FOR_A_MOMENT:
            return
        lane.refused[item.caller] = item.number, self._number
        waiting, lane.waiting = lane.waiting, deque()
        for other in waiting:
            if self._overtakes(lane, other):
                self._done(other, outcome)
            else:
                lane.waiting.append(other)

    def _done(self, item: _Item, outcome: Sent | Refusal) -> None:
        self._open -= 1
        item.answer(outcome)

    def _wait_again(self, lane: _Lane, item: _Item) -> None:
        lane.again = True
        if self._overtakes(lane, item):
            self._done(item, nobody_owns())
        else:
            insort(lane.waiting, item)

    @staticmethod
    def _overtakes(lane: _Lane, item: _Item) -> bool:
        first, last = lane.refused.get(item.caller, (0, 0))
        return first < item.number <= last

    # --- one lane ---

    def _go_on(self, lane: _Lane) -> None:
        if lane.task is not None or lane.under_way:
            return
        if not lane.waiting:
            if self._lanes.get(lane.channel_id) is lane:
                del self._lanes[lane.channel_id]
            return
        lane.task = asyncio.ensure_future(self._run(lane))

    async def _run(self, lane: _Lane) -> None:
        try:
            while lane.waiting and not lane.under_way:
                again, lane.again = lane.again, False
                try:
                    node_id = await owner_of(
                        self._owners, lane.channel_id, lane.waiting[0].until, again=again
                    )
                except Refusal as refusal:
                    # None may overtake another: they fail together.
                    self._fail(lane, refusal)
                    return
                some = [lane.waiting.popleft() for _ in range(min(BATCH, len(lane.waiting)))]
                if node_id == self._owners.node_id:
                    lane.under_way += len(some)
                    for caller, items in _by_caller(some).items():
                        await self._send_here(caller, [(lane, item) for item in items])
                else:
                    await self._send_there(lane, node_id, some)
        except Exception:
            log.exception("sends of a channel failed", extra={"channel_id": lane.channel_id})
            self._fail(lane, nobody_owns())
        finally:
            lane.task = None
            self._go_on(lane)

    def _fail(self, lane: _Lane, refusal: Refusal) -> None:
        while lane.waiting:
            self._done(lane.waiting.popleft(), refusal)

    async def _send_there(self, lane: _Lane, node_id: str, items: Sequence[_Item]) -> None:
        sends = pb.Sends()
        by_caller = _by_caller(items)
        for number, (caller, some) in enumerate(by_caller.items()):
            sends.callers.append(put_caller(caller))
            for item in some:
                sends.sends.add(caller=number, request=item.request)
        asked = [item for some in by_caller.values() for item in some]
        try:
            answer = await self._links.ask(node_id, pb.Question(sends=sends), ASK_S)
        except Unreachable:
            outcomes: Sequence[pb.SendOutcome] = ()
        else:
            outcomes = answer.sends.outcomes
        if len(outcomes) != len(items):
            # Whatever it did, each may be sent again under its id.
            for item in items:
                self._wait_again(lane, item)
            return
        for item, outcome in zip(asked, outcomes, strict=True):
            if outcome.message_id:
                self._answered(lane, item, Sent(outcome.message_id, outcome.time_us))
            elif outcome.failed.not_owner:
                self._wait_again(lane, item)
            else:
                self._answered(lane, item, Refusal.of(outcome.failed.refusal))


def _by_caller(items: Sequence[_Item]) -> dict[Caller, list[_Item]]:
    """Each caller's, in order: a caller's are handled as one, so that where one is refused for a
    moment none behind it is stored."""
    found: dict[Caller, list[_Item]] = {}
    for item in items:
        found.setdefault(item.caller, []).append(item)
    return found
