"""A model of the server, in plain Python: one store, any number of nodes and devices' streams.

It keeps the contract (proto/chinwag/chat/v1/connect.proto) in its smallest form, and has switches
for what may go wrong on the way: entries that get lost, refusals for a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from google.rpc import error_details_pb2, status_pb2

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, connect_pb2, entry_pb2
from chinwag.common.v1 import close_pb2

USER = "ada"
GENERATION = 7


def refusal(
    reason: str, code: int, *, retry_s: float | None = None, **facts: str
) -> status_pb2.Status:
    """A status as the server makes it."""
    status = status_pb2.Status(code=code, message=reason.lower())
    info = error_details_pb2.ErrorInfo(reason=reason, domain="chinwag", metadata=facts)
    status.details.add().Pack(info)
    if retry_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(retry_s * 1e9))
        status.details.add().Pack(retry)
    return status


@dataclass
class Log:
    """A channel: its entries, and the stays of the one user (to = None: it lasts)."""

    id: str
    entries: list[entry_pb2.Entry] = field(default_factory=list)
    stays: list[tuple[int, int | None]] = field(default_factory=list)
    changed: int = 0

    @property
    def head(self) -> int:
        return len(self.entries)

    @property
    def is_member(self) -> bool:
        return bool(self.stays) and self.stays[-1][1] is None

    def shows(self, entry_id: int) -> bool:
        return any(first <= entry_id <= (last or self.head) for first, last in self.stays)

    def after(self, position: int) -> Iterator[entry_pb2.Event]:
        """What a device gets after a position: entries, and gaps for what it may not see."""
        last_shown = max((i for i in range(1, self.head + 1) if self.shows(i)), default=0)
        hidden = 0
        for entry_id in range(position + 1, last_shown + 1):
            if not self.shows(entry_id):
                hidden = hidden or entry_id
                continue
            if hidden:
                gap = entry_pb2.Gap(channel_id=self.id, from_id=hidden, to_id=entry_id - 1)
                yield entry_pb2.Event(gap=gap)
                hidden = 0
            yield entry_pb2.Event(entry=self.entries[entry_id - 1])

    def opened(self, start_id: int) -> entry_pb2.Event:
        channel = channel_pb2.Channel(
            id=self.id, kind=channel_pb2.CHANNEL_KIND_GROUP, generation=GENERATION
        )
        return entry_pb2.Event(opened=entry_pb2.ChannelOpened(channel=channel, start_id=start_id))


class Server:
    """The store, and the streams that are open."""

    def __init__(self, channel_ids: list[str]) -> None:
        self.logs = {channel_id: Log(channel_id) for channel_id in channel_ids}
        self.stored: dict[tuple[str, str], int] = {}
        self.commits = 0
        self.streams: list[Stream] = []
        self.refuse = 0  # so many of the next sends are refused for a moment
        self.lose = 0  # so many of the next entries get lost on the way
        for log in self.logs.values():
            self.join(log)

    def append(self, log: Log, entry: entry_pb2.Entry) -> int:
        entry.channel_id, entry.id = log.id, log.head + 1
        log.entries.append(entry)
        self.commits += 1
        log.changed = self.commits
        return entry.id

    def tell(self, log: Log, event: entry_pb2.Event) -> None:
        for stream in self.streams:
            if stream.is_live:
                stream.out.append(connect_pb2.ConnectResponse(events=[event]))

    def entry(self, log: Log, entry_id: int) -> None:
        if self.lose:
            self.lose -= 1
        else:
            self.tell(log, entry_pb2.Event(entry=log.entries[entry_id - 1]))

    def join(self, log: Log) -> None:
        added = entry_pb2.MembersAdded(members=[entry_pb2.MemberRef(user_id=USER)])
        entry_id = self.append(log, entry_pb2.Entry(members_added=added))
        log.stays.append((entry_id, None))
        self.tell(log, log.opened(entry_id - 1))
        self.entry(log, entry_id)

    def leave(self, log: Log) -> None:
        removed = entry_pb2.MemberRemoved(user_id=USER)
        entry_id = self.append(log, entry_pb2.Entry(member_removed=removed))
        self.entry(log, entry_id)
        log.stays[-1] = (log.stays[-1][0], entry_id)

    def say(self, log: Log, text: str, actor: str, client_message_id: str) -> int:
        sent = entry_pb2.MessageSent(client_message_id=client_message_id)
        sent.content.text = text
        entry_id = self.append(log, entry_pb2.Entry(actor_id=actor, message_sent=sent))
        if log.is_member:
            self.entry(log, entry_id)
        return entry_id

    def sync(
        self, channel_id: str, generation: int, position: int
    ) -> chat_service_pb2.SyncResponse:
        log = self.logs[channel_id]
        if generation != GENERATION:
            reset = entry_pb2.ChannelReset(
                channel_id=channel_id,
                reason=entry_pb2.ChannelReset.REASON_GENERATION,
                generation=GENERATION,
                start_id=log.head,
            )
            return chat_service_pb2.SyncResponse(events=[entry_pb2.Event(reset=reset)])
        events = list(log.after(position))
        return chat_service_pb2.SyncResponse(events=events[:3], has_more=len(events) > 3)


class Stream:
    """One device's stream on the server's side: frames in, frames out (`out`).

    Attributes:
        address: Of the node that has it.
        is_over: A Close was its last frame.
    """

    def __init__(self, server: Server, address: str = "") -> None:
        self.server = server
        self.address = address
        self.is_live = self.is_over = False
        self.out: list[connect_pb2.ConnectResponse] = []
        self.held: dict[str, str] = {}
        server.streams.append(self)

    def close(self, close: close_pb2.Close) -> None:
        """Ends it with guidance."""
        self.out.append(connect_pb2.ConnectResponse(close=close))
        self.is_live, self.is_over = False, True

    def gone(self) -> None:
        """The connection has ended."""
        if self in self.server.streams:
            self.server.streams.remove(self)

    def receive(self, frame: connect_pb2.ConnectRequest) -> None:
        if self.is_over:
            return
        if frame.HasField("hello"):
            self._hello(frame.hello)
        for request in frame.sends:
            self.out.append(connect_pb2.ConnectResponse(results=[self._send(request)]))
        if frame.HasField("ping"):
            pong = connect_pb2.Pong(id=frame.ping.id, stamp=str(self.server.commits))
            self.out.append(connect_pb2.ConnectResponse(pong=pong))

    def _hello(self, hello: connect_pb2.Hello) -> None:
        server = self.server
        limits = connect_pb2.Limits(max_sends_per_frame=3, max_frame_bytes=4 << 20)
        limits.ping_interval.FromSeconds(30)
        welcome = connect_pb2.Welcome(user_id=USER, device_id="d", limits=limits)
        self.out.append(connect_pb2.ConnectResponse(welcome=welcome))
        cursors = {cursor.channel_id: cursor for cursor in hello.cursors}
        since = int(hello.resume_stamp or 0)
        for log in server.logs.values():
            cursor = cursors.get(log.id)
            if cursor is None:
                if log.is_member and log.changed > since:
                    event = log.opened(log.head)
                    self.out.append(connect_pb2.ConnectResponse(events=[event]))
                continue
            assert cursor.generation == GENERATION
            for event in log.after(cursor.id):
                self.out.append(connect_pb2.ConnectResponse(events=[event]))
        stamp = connect_pb2.CaughtUp(stamp=str(server.commits))
        self.out.append(connect_pb2.ConnectResponse(caught_up=stamp))
        self.is_live = True

    def _send(self, request: connect_pb2.SendMessageRequest) -> connect_pb2.SendResult:
        server, channel_id = self.server, request.channel_id
        name = request.client_message_id
        result = connect_pb2.SendResult(client_message_id=name, channel_id=channel_id)
        log = server.logs[channel_id]
        held = self.held.get(channel_id)
        if held is not None and held != name:
            error = refusal("EARLIER_SEND_REFUSED", 10, client_message_id=held)
            result.error.CopyFrom(error)
            return result
        self.held.pop(channel_id, None)
        if server.refuse:
            server.refuse -= 1
            self.held[channel_id] = name
            result.error.CopyFrom(refusal("RATE_LIMITED", 8, retry_s=1.5))
            return result
        if (channel_id, name) not in server.stored:
            if not log.is_member:
                result.error.CopyFrom(refusal("NOT_A_MEMBER", 7))
                return result
            text = request.content.text
            server.stored[channel_id, name] = server.say(log, text, USER, name)
        result.message_id = server.stored[channel_id, name]
        return result
