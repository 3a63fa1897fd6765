"""Sending: the hot path. Permission, idempotency, the next id, a submission a channel and frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chinwag.chat.v1 import channel_pb2, connect_pb2
from chinwag_server.chat import access, ids, ranges
from chinwag_server.chat.channel import ChannelLog, MessageState, PendingSend
from chinwag_server.chat.channels import Channels, not_found, storage_unavailable
from chinwag_server.chat.directory import Directory
from chinwag_server.chat.entries import parse, time_us
from chinwag_server.chat.messages import Messages, put_state
from chinwag_server.chat.permissions import Action
from chinwag_server.chat.requests import content_hash
from chinwag_server.chat.store import PutMentions, StoredSend, StoreUnavailable, Write
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

EXPIRE_MS = 15 * 86_400_000
# Refusals after which the same send may succeed: nothing of its channel may overtake it.
FOR_A_MOMENT = frozenset({"RATE_LIMITED", "OVERLOADED", "STORAGE_UNAVAILABLE"})
# A client whose clock is further ahead would outlive the idempotency rows (30 days).
MAX_AHEAD_MS = 86_400_000

_DIRECT = channel_pb2.CHANNEL_KIND_DIRECT


@dataclass(slots=True, frozen=True)
class Sent:
    """A stored message: its id and server time (microseconds since 1970)."""

    message_id: int
    time_us: int


# Called once for each request: with its index and what became of it.
Answer = Callable[[int, Sent | Refusal], None]


@dataclass(slots=True)
class _Prepared:
    index: int
    request: connect_pb2.SendMessageRequest
    log: ChannelLog
    key: bytes
    # The content, serialised.
    content: bytes
    digest: bytes
    # The thread's root; counted as in flight from the look-up on, so that it is not forgotten.
    root: MessageState | None
    assigned: bool = False
    # Why it may not be sent now; a repeat of what was sent before still gets its answer.
    refusal: Refusal | None = None
    # Of a repeat: when the first was stored.
    stored_time_us: int = 0


@dataclass(slots=True)
class _Batch:
    """What a frame brings to one channel."""

    log: ChannelLog
    writes: list[Write] = field(default_factory=list)
    taken: list[tuple[_Prepared, PendingSend]] = field(default_factory=list)
    roots: list[MessageState] = field(default_factory=list)


class Sends:
    """Takes sends in the order in which they come and answers each when it is durable."""

    def __init__(
        self, channels: Channels, messages: Messages, directory: Directory, clock: Clock
    ) -> None:
        self._channels = channels
        self._messages = messages
        self._directory = directory
        self._clock = clock

    async def send(
        self, caller: Caller, requests: Sequence[connect_pb2.SendMessageRequest], answer: Answer
    ) -> None:
        """Assigns ids to all that may be sent and submits them. Returns before they are durable.

        The answers come in the order of commits; those of refused sends come at once.
        """
        prepared: list[_Prepared] = []
        # Channels of which a send failed for a moment: none may overtake it.
        held: set[str] = set()
        try:
            for index, request in enumerate(requests):
                if request.channel_id in held:
                    answer(index, storage_unavailable())
                    continue
                try:
                    prepared.append(await self._prepare(caller, index, request))
                except StoreUnavailable:
                    held.add(request.channel_id)
                    answer(index, storage_unavailable())
                except Refusal as refusal:
                    if refusal.reason in FOR_A_MOMENT:
                        held.add(request.channel_id)
                    answer(index, refusal)
            if not prepared:
                return
            await self._channels.wait_for_room()
            # A send that is stored while its repeat is looked up is found by neither the look-up
            # nor `pending`: so those that finish meanwhile are kept in `finished`.
            for item in prepared:
                item.log.lookups += 1
            try:
                found = await self._channels.store.find_sends(
                    [(item.log.id, caller.user_id, item.key) for item in prepared]
                )
                for item, stored in zip(prepared, found, strict=True):
                    if stored is not None:
                        item.stored_time_us = await self._time_of(item.log, stored.message_id)
                self._assign(caller, prepared, found, answer)
            except StoreUnavailable:
                for item in prepared:
                    answer(item.index, storage_unavailable())
            finally:
                for item in prepared:
                    item.log.lookups -= 1
                    if not item.log.lookups:
                        item.log.finished.clear()
        finally:
            for item in prepared:
                item.log.uses -= 1
                if item.root is not None and not item.assigned:
                    item.root.in_flight -= 1

    async def _time_of(self, log: ChannelLog, message_id: int) -> int:
        entry = await self._channels.store.entry(log.id, message_id)
        return time_us(parse(entry).create_time) if entry is not None else 0

    async def _prepare(
        self, caller: Caller, index: int, request: connect_pb2.SendMessageRequest
    ) -> _Prepared:
        """Everything that may wait: loading, relations, the thread's root."""
        key = ids.client_message_id_bytes(request.client_message_id)
        age_ms = self._clock.time_us() // 1000 - ids.uuid7_time_ms(key)
        if age_ms > EXPIRE_MS:
            raise Refusal(
                "SEND_EXPIRED",
                "the client_message_id was made more than 15 days ago: show the user that the "
                "message was not sent, and send it under a new id if they want to",
            )
        if age_ms < -MAX_AHEAD_MS:
            raise Refusal(
                "INVALID_FIELD",
                "the client_message_id lies more than a day in the future: set the clock by "
                "Welcome.server_time",
                fields=[("client_message_id", "made by a clock that is ahead of the server's")],
            )
        self._messages.check_text(request.content)
        log = await self._channels.get(request.channel_id)
        if log is None:
            raise not_found(request.channel_id)
        log.uses += 1
        refusal = root = None
        try:
            if log.is_broadcast:
                await self._channels.member(log, caller.user_id)
            try:
                # What the caller may not know of is not looked into.
                access.check(log, log.members.get(caller.user_id), Action.SEND)
                if log.kind == _DIRECT and not await self._directory.may_write(
                    caller.user_id, log.other_user(caller.user_id)
                ):
                    raise Refusal("RECIPIENT_UNAVAILABLE", "you cannot write to this user")
                if request.thread_root_id:
                    root = await self._thread_root(log, caller, request.thread_root_id)
            except Refusal as error:
                if log.dead or caller.user_id not in log.members:
                    raise
                refusal = error
        except BaseException:
            log.uses -= 1
            raise
        # Nothing below waits or fails: the pins of log and root are the caller's now.
        content = request.content.SerializeToString(deterministic=True)
        digest = content_hash(content, b"%d %d" % (request.reply_to_id, request.thread_root_id))
        return _Prepared(index, request, log, key, content, digest, root, refusal=refusal)

    async def _thread_root(self, log: ChannelLog, caller: Caller, root_id: int) -> MessageState:
        state = await self._messages.state(log, root_id)
        member = log.members[caller.user_id]
        if (
            state is None
            or state.message.thread_root_id
            or not ranges.contains(log.visible(member), root_id)
        ):
            raise Refusal(
                "MESSAGE_NOT_FOUND",
                f"thread_root_id {root_id} is no message of the main timeline that you may see",
            )
        state.in_flight += 1
        return state

    def _assign(
        self,
        caller: Caller,
        prepared: Sequence[_Prepared],
        found: Sequence[StoredSend | None],
        answer: Answer,
    ) -> None:
        """Everything that must not wait: from the check to the submission nothing else runs."""
        batches: dict[str, _Batch] = {}
        now_us = self._clock.time_us()
        held: set[str] = set()
        for item, stored in zip(prepared, found, strict=True):
            try:
                if item.log.id in held:
                    raise storage_unavailable()
                self._take(caller, item, stored, now_us, answer, batches)
            except Refusal as refusal:
                if refusal.reason in FOR_A_MOMENT:
                    held.add(item.log.id)
                answer(item.index, refusal)
        for batch in batches.values():
            self._submit(caller, batch)

    def _submit(self, caller: Caller, batch: _Batch) -> None:
        log = batch.log

        def done(error: Exception | None) -> None:
            for root in batch.roots:
                root.in_flight -= 1
            for item, pending in batch.taken:
                key = (caller.user_id, item.key)
                log.pending.pop(key, None)
                if log.lookups and error is None:
                    log.finished[key] = pending
                for waiting in pending.waiting:
                    waiting(error)

        self._channels.submit(log, batch.writes, done)

    def _take(
        self,
        caller: Caller,
        item: _Prepared,
        stored: StoredSend | None,
        now_us: int,
        answer: Answer,
        batches: dict[str, _Batch],
    ) -> None:
        """Assigns one send, if it is no repeat."""
        log, request, sender = item.log, item.request, caller.user_id
        if log.dead:
            raise storage_unavailable()
        pending = log.pending.get((sender, item.key))
        if pending is not None:
            _check_same(item, pending.content_hash, pending.message_id)
            pending.waiting.append(_waiting(answer, item.index, pending))
            return
        finished = log.finished.get((sender, item.key))
        if finished is not None:
            item.stored_time_us = finished.time_us
            stored = StoredSend(finished.message_id, finished.content_hash)
        if stored is not None:
            _check_same(item, stored.content_hash, stored.message_id)
            answer(item.index, Sent(stored.message_id, item.stored_time_us))
            return
        if item.refusal is not None:
            raise item.refusal
        member = access.check(log, log.members.get(sender), Action.SEND)
        if request.reply_to_id > log.committed_id:
            raise Refusal(
                "BEYOND_HEAD",
                f"reply_to_id {request.reply_to_id} is above the channel's head",
                fields=[("reply_to_id", f"at most {log.committed_id}")],
            )
        entry = log.append_message(
            request,
            item.content,
            now_us,
            sender,
            caller.device_id,
            client_message_id=item.key,
            content_hash=item.digest,
        )
        batch = batches.setdefault(log.id, _Batch(log))
        batch.writes.append(entry)
        marks = log.move_own_marks(member, entry.id, entry.timeline_count)
        if marks is not None:
            batch.writes.append(marks)
        mentioned = self._mentions(log, request)
        if mentioned:
            batch.writes.append(PutMentions(log.id, entry.id, mentioned))
        if item.root is not None:
            root = item.root
            root.message.thread.reply_count += 1
            root.message.thread.last_reply_id = entry.id
            root.message.last_entry_id = entry.id
            item.assigned = True
            batch.roots.append(root)
            batch.writes.append(put_state(log, root))
        pending = PendingSend(entry.id, log.record.head_time_us, item.digest)
        pending.waiting.append(_waiting(answer, item.index, pending))
        log.pending[(sender, item.key)] = pending
        batch.taken.append((item, pending))

    @staticmethod
    def _mentions(log: ChannelLog, request: connect_pb2.SendMessageRequest) -> tuple[str, ...]:
        content = request.content
        if not content.mentioned_user_ids:
            return ("",) if content.mentions_everyone else ()
        users = tuple(
            user
            for user in content.mentioned_user_ids
            # Of a broadcast channel not all members are in memory: a row for somebody else is
            # never read.
            if log.is_broadcast or log.role(user)
        )
        return (*users, "") if content.mentions_everyone else users


def _waiting(
    answer: Answer, index: int, pending: PendingSend
) -> Callable[[Exception | None], None]:
    def waiting(error: Exception | None) -> None:
        if error is None:
            answer(index, Sent(pending.message_id, pending.time_us))
        elif isinstance(error, StoreUnavailable):
            answer(index, storage_unavailable())
        else:
            answer(index, Refusal("INTERNAL", "the server failed; the log has it"))

    return waiting


def _check_same(item: _Prepared, digest: bytes, message_id: int) -> None:
    if digest != item.digest:
        raise Refusal(
            "ID_REUSED",
            "this client_message_id was used with other content: draw a new one for each message",
            metadata={"message_id": str(message_id), "channel_id": item.log.id},
        )
