"""The owner's side: what other nodes ask of the channels that this one owns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chinwag.chat.v1 import channel_pb2, connect_pb2
from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.channels import storage_unavailable
from chinwag_server.chat.marks import Marks
from chinwag_server.chat.routed.callers import NOT_OWNER, caller_of, refused
from chinwag_server.chat.routed.calls import METHODS, is_repeatable
from chinwag_server.chat.routed.owners import Owners
from chinwag_server.chat.routed.sends import Sender
from chinwag_server.chat.sends import Sent
from chinwag_server.chat.store import ChannelRecord, StoreUnavailable
from chinwag_server.rpc.caller import Caller, set_caller
from chinwag_server.rpc.errors import Refusal

log = logging.getLogger(__name__)

# Calls between nodes only: a user's membership in a channel ends, a message loses its content.
FORGET = "forget"
REDACT = "redact"


class ChannelAnswers:
    """Answers questions about channels that this node owns.

    Args:
        servicer: ChatService's methods over the own channels.
        channel: Reads a channel's row, taking the channel over if need be.
        watched: Told that a node wants to hear of a channel's entries for the next while.
        own_calls: `FORGET` and `REDACT`: (caller, channel, argument) -> done.
    """

    def __init__(
        self,
        owners: Owners,
        *,
        sends: Sender,
        servicer: Any,
        marks: Marks,
        channel: Callable[[str], Awaitable[ChannelRecord | None]],
        watched: Callable[[str, str], None],
        own_calls: dict[str, Callable[[str, str], Awaitable[None]]],
    ) -> None:
        self._owners = owners
        self._sends = sends
        self._servicer = servicer
        self._marks = marks
        self._channel = channel
        self._watched = watched
        self._own_calls = own_calls

    async def asked(self, node_id: str, question: pb.Question) -> pb.Answer:
        """The answer to another node's question."""
        match question.WhichOneof("ask"):
            case "sends":
                return pb.Answer(sends=await self._on_sends(question.sends))
            case "call":
                return pb.Answer(call=await self._on_call(question.call))
            case "heads":
                return pb.Answer(heads=await self.heads(node_id, question.heads.channel_ids))
            case "signals":
                return pb.Answer(signals=await self._on_signals(question.signals))
        refusal = Refusal("NOT_IMPLEMENTED", "this node does not know the question")
        return pb.Answer(error=refusal.status())

    def _failed(self, channel_id: str, refusal: Refusal) -> pb.Outcome:
        """What of something that may be repeated is told: if the channel went away meanwhile, the
        new owner is to be asked."""
        if refusal.reason == "STORAGE_UNAVAILABLE" and not self._owners.owns(channel_id):
            return NOT_OWNER
        return refused(refusal)

    # --- sends ---

    async def _on_sends(self, sends: pb.Sends) -> pb.SendsResult:
        outcomes: list[pb.SendOutcome | None] = [None] * len(sends.sends)
        callers = [caller_of(caller) for caller in sends.callers]
        left = len(outcomes)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(index: int, outcome: pb.SendOutcome) -> None:
            nonlocal left
            if outcomes[index] is None:
                outcomes[index] = outcome
                left -= 1
                if not left and not done.done():
                    done.set_result(None)

        start = 0
        while start < len(sends.sends):
            number = sends.sends[start].caller
            end = start
            while end < len(sends.sends) and sends.sends[end].caller == number:
                end += 1
            indexes: list[int] = []
            requests: list[connect_pb2.SendMessageRequest] = []
            for index in range(start, end):
                request = sends.sends[index].request
                if self._owners.owns(request.channel_id):
                    indexes.append(index)
                    requests.append(request)
                else:
                    settle(index, pb.SendOutcome(failed=NOT_OWNER))
            start = end

            def answer(
                at: int,
                outcome: Sent | Refusal,
                indexes: list[int] = indexes,
                requests: list[connect_pb2.SendMessageRequest] = requests,
            ) -> None:
                if isinstance(outcome, Refusal):
                    failed = self._failed(requests[at].channel_id, outcome)
                    settle(indexes[at], pb.SendOutcome(failed=failed))
                else:
                    settle(
                        indexes[at],
                        pb.SendOutcome(message_id=outcome.message_id, time_us=outcome.time_us),
                    )

            if requests:
                await self._sends.send(callers[number], requests, answer)
        if left:
            await done
        return pb.SendsResult(outcomes=[outcome or pb.SendOutcome() for outcome in outcomes])

    # --- calls ---

    async def _on_call(self, call: pb.Call) -> pb.CallResult:
        if not self._owners.owns(call.channel_id):
            return pb.CallResult(failed=NOT_OWNER)
        if (own := self._own_calls.get(call.method)) is not None:
            try:
                await own(call.channel_id, call.request.decode())
            except Refusal as error:
                return pb.CallResult(failed=self._failed(call.channel_id, error))
            return pb.CallResult()
        if call.method not in METHODS:
            unknown = Refusal("NOT_IMPLEMENTED", f"this node does not know {call.method!r}")
            return pb.CallResult(failed=refused(unknown))
        request = METHODS[call.method][0]()
        request.ParseFromString(call.request)
        set_caller(caller_of(call.caller))
        try:
            response = await getattr(self._servicer, call.method)(request, None)
        except (Refusal, StoreUnavailable) as error:
            refusal = error if isinstance(error, Refusal) else storage_unavailable()
            if is_repeatable(call.method, request):
                return pb.CallResult(failed=self._failed(call.channel_id, refusal))
            return pb.CallResult(failed=refused(refusal))
        return pb.CallResult(response=response.SerializeToString())

    # --- heads ---

    async def heads(self, node_id: str, channel_ids: Sequence[str]) -> pb.ChannelHeadsResult:
        """How far channels are; the node hears of their entries from now on."""
        found = await asyncio.gather(*(self._head(node_id, item) for item in channel_ids))
        return pb.ChannelHeadsResult(heads=found)

    async def _head(self, node_id: str, channel_id: str) -> pb.ChannelHead:
        if not self._owners.owns(channel_id):
            return pb.ChannelHead(channel_id=channel_id, failed=NOT_OWNER)
        # Before the read: what is committed after it is told.
        self._watched(channel_id, node_id)
        try:
            record = await self._channel(channel_id)
        except StoreUnavailable:
            failed = self._failed(channel_id, storage_unavailable())
            return pb.ChannelHead(channel_id=channel_id, failed=failed)
        return put_head(channel_id, record)

    # --- signals ---

    async def _on_signals(self, signals: pb.Signals) -> pb.SignalsResult:
        caller = caller_of(signals.caller)
        work = [self._mark(caller, mark) for mark in signals.marks]
        work += [self._type(caller, signal) for signal in signals.typing]
        return pb.SignalsResult(failed=await asyncio.gather(*work))

    async def _mark(self, caller: Caller, mark: connect_pb2.Mark) -> pb.Outcome:
        if not self._owners.owns(mark.channel_id):
            return NOT_OWNER
        try:
            await self._marks.move(caller, mark.channel_id, mark.read_id, mark.delivered_id)
        except Refusal as refusal:
            return self._failed(mark.channel_id, refusal)
        except StoreUnavailable:
            return self._failed(mark.channel_id, storage_unavailable())
        return pb.Outcome()

    async def _type(self, caller: Caller, signal: connect_pb2.TypingSignal) -> pb.Outcome:
        if not self._owners.owns(signal.channel_id):
            return NOT_OWNER
        try:
            await self._marks.typing(
                caller, signal.channel_id, signal.thread_root_id, signal.active
            )
        except Refusal as refusal:
            return self._failed(signal.channel_id, refusal)
        except StoreUnavailable:
            return self._failed(signal.channel_id, storage_unavailable())
        return pb.Outcome()


def put_head(channel_id: str, record: ChannelRecord | None) -> pb.ChannelHead:
    """For another node."""
    if record is None:
        return pb.ChannelHead(channel_id=channel_id)
    return pb.ChannelHead(
        channel_id=channel_id,
        exists=True,
        kind=record.kind,
        settings=record.settings,
        head_id=record.head_id,
        head_count=record.head_count,
        head_time_us=record.head_time_us,
        last_message_id=record.last_message_id,
        member_count=record.member_count,
        deleted=record.deleted,
    )


def record_of(head: pb.ChannelHead, generation: int) -> ChannelRecord | None:
    """As its owner said."""
    if not head.exists:
        return None
    return ChannelRecord(
        head.channel_id,
        head.kind,
        head.settings,
        generation=generation,
        head_id=head.head_id,
        head_count=head.head_count,
        head_time_us=head.head_time_us,
        last_message_id=head.last_message_id,
        member_count=head.member_count,
        deleted=head.deleted,
    )


def is_broadcast(record: ChannelRecord) -> bool:
    """Whether a channel's members are not known as a whole."""
    return record.kind == channel_pb2.CHANNEL_KIND_BROADCAST
