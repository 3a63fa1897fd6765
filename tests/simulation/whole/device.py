"""A device: the SDK's core over connections that break, and an application over it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2, chat_service_pb2, connect_pb2, entry_pb2, message_pb2
from chinwag.endpoints import Endpoints
from chinwag.errors import ChinwagError, Replaced
from chinwag.outbox import Sent
from chinwag.positions import Fetch
from chinwag.protocol import DeviceProtocol
from chinwag.store import MemoryStore
from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal
from tests.simulation.checker import Violation
from tests.simulation.loop import EPOCH_S
from tests.simulation.whole.connection import Connection
from tests.simulation.world import NoAnswer

if TYPE_CHECKING:
    from tests.simulation.whole.scenario import WholeScenario

FETCH_TRIES = 6
# A node notices within this that a device has gone.
GHOST_S = 25.0
WANTS = connect_pb2.Subscriptions(receipts=True)


class DeviceClock:
    """`chinwag.clock.Clock` of all devices: the world's."""

    def __init__(self, scenario: WholeScenario) -> None:
        self._loop = scenario.world.loop

    def monotonic(self) -> float:
        return self._loop.now

    def time(self) -> float:
        return EPOCH_S + self._loop.now


@dataclass(slots=True)
class View:
    """What an application has of a channel.

    Attributes:
        start: Its view began behind this entry.
        seen: The entries that it was given, in order.
        committed: So many of them are committed.
    """

    start: int
    seen: list[int] = field(default_factory=list)
    committed: int = 0


@dataclass(slots=True, frozen=True)
class Posted:
    """What a device was asked to send.

    Attributes:
        seen_id: The last entry that its application had of the channel then.
    """

    channel_id: str
    text: str
    seen_id: int


@dataclass(slots=True, frozen=True)
class Refused:
    """What will never be sent."""

    channel_id: str
    text: str
    reason: str


@dataclass(slots=True, frozen=True)
class Jump:
    """On one stream an entry followed one that is not the one before it."""

    channel_id: str
    after_id: int
    entry_id: int


class Device:
    """One device of a user, over all its processes.

    Attributes:
        views: Of the application, by channel.
        posted: All that it was asked to send, by key, in order.
        refused: What of that will never be sent.
        own: Its own messages, by channel.
        marks: What it has marked as read, but for what a crash took with it.
        jumps: Where a stream left something out; what lies there must not be visible.
    """

    def __init__(self, scenario: WholeScenario, user: str, number: int) -> None:
        self.user = user
        self.name = f"{user}-{number}"
        self._scenario = scenario
        self._world = scenario.world
        self._rng = random.Random(f"{self.name} {scenario.world.seed}")
        self._clock = DeviceClock(scenario)
        self._store = MemoryStore()
        self._taken: list[ev.Event] = []
        self.posted: dict[str, Posted] = {}
        self.refused: list[Refused] = []
        self.views: dict[str, View] = {}
        self.own: dict[str, list[int]] = {}
        self.marks: dict[str, int] = {}
        self.jumps: list[Jump] = []
        self.looks_at: dict[str, int] = {}
        self._connection: Connection | None = None
        self._gave_up_at = -GHOST_S  # a connection that its node may still take for a good one
        self._at: dict[str, int] = {}  # where the present stream is
        self._process = 0
        self.protocol: DeviceProtocol
        self._begin()

    # --- its process ---

    def _begin(self) -> None:
        self._process += 1
        self._timer_at: float | None = None
        nodes = [node.name for node in self._world.wholes]
        self._endpoints = Endpoints(nodes, rng=self._rng, monotonic=self._clock.monotonic)
        self.protocol = DeviceProtocol(
            self._store.load(),
            clock=self._clock,
            rng=self._rng,
            subscriptions=WANTS,
            endpoints=self._endpoints,
        )
        self._later(0.0, self._connect)

    def crash(self) -> None:
        """The process dies, and the next one begins with what was committed."""
        self._note("crashes")
        if self._rng.random() < 0.5:
            self._commit()
        self._taken.clear()
        self.marks.clear()
        for channel_id, view in list(self.views.items()):
            del view.seen[view.committed :]
            if not view.committed and not self._knows(channel_id):
                del self.views[channel_id]
        self._leave()
        self._begin()
        for channel_id, start in self.looks_at.items():
            self._look(channel_id, start)

    def _knows(self, channel_id: str) -> bool:
        return any(cursor.channel_id == channel_id for cursor in self._store.load().cursors)

    def _commit(self) -> None:
        self._store.commit(self._taken)
        self._taken.clear()
        for view in self.views.values():
            view.committed = len(view.seen)

    # --- what its people want ---

    @property
    def is_live(self) -> bool:
        """Caught up, and nothing is unresolved."""
        return self.protocol.connection is ev.Connection.LIVE and not len(self.protocol.outbox)

    def post(self, channel_id: str, text: str) -> str:
        """Queues a message, and gives its key."""
        content = message_pb2.MessageContent(text=text)
        send = self.protocol.post(channel_id, content)
        self._store.add_send(send)
        key = send.request.client_message_id
        self.posted[key] = Posted(channel_id, text, self._seen_id(channel_id))
        self._note(f"posts {text!r} in {channel_id[:4]}")
        self._pump()
        return key

    def is_sent(self, key: str) -> bool:
        """Whether a message is stored."""
        return key not in self.protocol.outbox

    def mark(self, channel_id: str, read_id: int) -> None:
        """Marks as read."""
        self.marks[channel_id] = max(read_id, self.marks.get(channel_id, 0))
        self.protocol.mark(channel_id, read_id=read_id)
        self._pump()

    def look(self, channel_id: str, start: int) -> None:
        """Looks at a broadcast channel from an entry on."""
        self.looks_at[channel_id] = start
        self.views[channel_id] = View(start)
        self._look(channel_id, start)

    def _look(self, channel_id: str, start: int) -> None:
        view = self.views.setdefault(channel_id, View(start))
        at = view.seen[-1] if view.seen else start
        self.protocol.look(ev.Cursor(channel_id, self._scenario.generation, at))
        self._pump()

    def move(self, node: str) -> None:
        """Goes to another node, which knows nothing of the old connection's end."""
        self._note(f"goes to {node}")
        self._endpoints.use(node)
        if self._connection is not None:
            if self._rng.random() < 0.5:
                self._connection.break_off(None, self._rng.choice((2.0, None)))
            self._lost(None)

    @property
    def _has_ghost(self) -> bool:
        return self._clock.monotonic() - self._gave_up_at < GHOST_S

    @property
    def connection(self) -> Connection | None:
        """The one that is open or being opened."""
        return self._connection

    # --- the skin ---

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        process = self._process

        def happen() -> None:
            if process == self._process:
                act()

        self._world.loop.happen(delay_s, happen)

    def _connect(self) -> None:
        if self._connection is not None or self.protocol.error is not None:
            return
        self.protocol.connecting()
        node = self._world.node(self.protocol.plan.address)
        self._connection = Connection(self._world, node, Caller(self.user, self.name), self)
        self._at = {cursor.channel_id: cursor.id for cursor in self.protocol.positions.cursors()}
        self.protocol.connected()
        self._pump()

    def came(self, connection: Connection, data: bytes) -> None:
        if connection is not self._connection:
            return
        frame = connect_pb2.ConnectResponse.FromString(data)
        for event in frame.events:
            self._follow(event)
        self.protocol.receive(frame)
        self._pump()

    def ended(self, connection: Connection, error: ChinwagError | None) -> None:
        if connection is self._connection:
            self._lost(error, leave=False)

    def _lost(self, error: ChinwagError | None, *, leave: bool = True) -> None:
        if leave:
            self._leave()
        elif self._connection is not None and self._connection.is_broken:
            self._gave_up_at = self._clock.monotonic()
        self._connection = None
        self.protocol.connection_lost(error)
        if isinstance(self.protocol.error, Replaced) and self._has_ghost:
            # A stream that it gave up came to life elsewhere after its newer one: no order of a
            # device's streams is known to nodes but that in which hellos are read.
            self._note("is replaced by what it left behind, and begins anew")
            self.crash()
            return
        if self.protocol.error is not None:
            raise Violation(f"{self.name} was closed for good: {self.protocol.error!r}")
        self._pump()
        self._later(max(0.0, self.protocol.retry_at - self._clock.monotonic()), self._connect)

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._gave_up_at = self._clock.monotonic()
            connection.leave()

    def _pump(self) -> None:
        output = self.protocol.take()
        for event in output.events:
            self._take(event)
        for outcome in output.outcomes:
            key = outcome.client_message_id
            self._store.remove_sends([key])
            self._resolved(key, outcome.sent or outcome.error)
        for fetch in output.fetches:
            self._world.loop.create_task(self._fetch(fetch, self._process))
        if self._connection is not None:
            for frame in output.frames:
                self._connection.send(frame.SerializeToString())
            if self.protocol.drop:
                self._lost(None)
                return
        self._set_timer()

    def _set_timer(self) -> None:
        at = self.protocol.next_tick
        if at is None or (self._timer_at is not None and self._timer_at <= at):
            return
        self._timer_at = at
        # Rounded down it would ring too early, again and again.
        self._later(max(0.0, at - self._clock.monotonic()) + 0.001, lambda: self._ring(at))

    def _ring(self, at: float) -> None:
        if self._timer_at == at:
            self._timer_at = None
            self.protocol.tick()
            self._pump()

    async def _fetch(self, fetch: Fetch, process: int) -> None:
        """As the SDK's link does."""
        cursor = fetch.cursor
        self._note(f"fetches {cursor.channel_id[:4]} after {cursor.id}")
        request = chat_service_pb2.SyncRequest(
            cursors=[
                channel_pb2.Cursor(
                    channel_id=cursor.channel_id, generation=cursor.generation, id=cursor.id
                )
            ],
            cursors_only=True,
            max_entries=1000,
        )
        answer = None
        for _ in range(FETCH_TRIES):
            node = self._rng.choice(self._world.wholes)
            try:
                answer = await self._world.call(node, "call", self.user, "Sync", request)
                break
            except (NoAnswer, Refusal, StoreUnavailable):
                await asyncio.sleep(0.2)
        if process != self._process:
            return
        if answer is None:
            self.protocol.fetch_failed(fetch.number)
        else:
            self.protocol.fetched(fetch.number, answer)
        self._pump()

    # --- the application ---

    def _take(self, event: ev.Event) -> None:
        self._taken.append(event)
        match event:
            case ev.EntryEvent():
                entry = event.entry
                view = self.views.get(entry.channel_id)
                if view is None:
                    raise Violation(f"{self.name} got {entry.id} of a channel that is not open")
                if entry.id <= (view.seen[-1] if view.seen else view.start):
                    raise Violation(
                        f"{entry.channel_id}: {self.name} got {entry.id} after {view.seen[-1:]}, "
                        f"its view began behind {view.start}"
                    )
                view.seen.append(entry.id)
                self._scenario.world.history.show(
                    self.name, entry.channel_id, [(entry.id, entry.SerializeToString())]
                )
            case ev.ChannelOpened():
                if event.channel_id not in self.views:
                    self._note(f"has {event.channel_id[:4]} from {event.cursor.id} on")
                    self.views[event.channel_id] = View(event.cursor.id)
            case ev.ChannelReset():
                self._reset(event)
            case ev.ConnectionChanged():
                node = self._connection.node.name if self._connection is not None else "nobody"
                self._note(f"is {event.connection.name} at {node}")
        if self._rng.random() < 0.3:
            self._commit()

    def _reset(self, event: ev.ChannelReset) -> None:
        """Legal only for a channel of which the device never was told that it is open."""
        self._note(f"is reset in {event.channel_id[:4]}: {event.reason}")
        if event.cursor is None or event.channel_id in self.views:
            raise Violation(f"{event.channel_id}: {self.name} is reset: {event.reason}")
        self.views[event.channel_id] = View(event.cursor.id)

    def _resolved(self, key: str, outcome: Sent | ChinwagError | None) -> None:
        channel_id, text = self.posted[key].channel_id, self.posted[key].text
        if isinstance(outcome, Sent):
            self._scenario.world.history.ack(channel_id, self.user, key, outcome.message_id, text)
            self.own.setdefault(channel_id, []).append(outcome.message_id)
            self._note(f"{text!r} in {channel_id[:4]} is {outcome.message_id}")
        else:
            assert outcome is not None
            self._note(f"{text!r} is refused: {outcome.reason}")
            self.refused.append(Refused(channel_id, text, outcome.reason))

    def _seen_id(self, channel_id: str) -> int:
        view = self.views.get(channel_id)
        return 0 if view is None else view.seen[-1] if view.seen else view.start

    # --- the present stream ---

    def _follow(self, event: entry_pb2.Event) -> None:
        """The stream alone, without what the SDK mends."""
        kind = event.WhichOneof("event")
        if kind == "entry":
            channel_id, entry_id = event.entry.channel_id, event.entry.id
            at = self._at.get(channel_id)
            if at is not None and entry_id > at + 1:
                self._note(f"its stream goes from {at} to {entry_id} in {channel_id[:4]}")
                self.jumps.append(Jump(channel_id, at, entry_id))
            self._at[channel_id] = max(at or 0, entry_id)
        elif kind == "gap":
            gap = event.gap
            at = self._at.get(gap.channel_id)
            if at is not None:
                if gap.from_id > at + 1:
                    self.jumps.append(Jump(gap.channel_id, at, gap.from_id))
                self._at[gap.channel_id] = max(at, gap.to_id)
        elif kind == "opened":
            channel_id = event.opened.channel.id
            self._at[channel_id] = max(self._at.get(channel_id, 0), event.opened.start_id)
        elif kind == "reset" and event.reset.generation:
            self._at[event.reset.channel_id] = event.reset.start_id

    def _note(self, what: str) -> None:
        self._scenario.note(self.name, what)
