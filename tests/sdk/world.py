"""A device, its application, a network that breaks, and the model server, moved by a seed.

The server has two nodes over one store; each of them may die, drain, shed load or send the device
to the other one at any time.
"""

from __future__ import annotations

import random
from collections import deque

from chinwag import events as ev
from chinwag.chat.v1 import connect_pb2, message_pb2
from chinwag.common.v1 import close_pb2
from chinwag.endpoints import Endpoints
from chinwag.errors import ChinwagError, Unavailable
from chinwag.outbox import Sent
from chinwag.positions import Fetch
from chinwag.protocol import DeviceProtocol
from chinwag.store import MemoryStore
from tests.sdk.clock import FakeClock
from tests.sdk.model import USER, Server, Stream

CHANNELS = ["c1", "c2"]
NODES = ["one:1", "two:1"]
Reason = close_pb2.CloseReason

# How often each thing happens; what breaks the connection is rare, so that there is one to break.
WEIGHTS = {
    "carry_up": 20,
    "carry_down": 25,
    "application_takes": 12,
    "application_commits": 3,
    "post": 10,
    "others_talk": 10,
    "time_passes": 6,
    "answer_fetch": 8,
    "membership_changes": 1,
    "server_refuses": 2,
    "entries_get_lost": 1,
    "application_is_slow": 1,
    "application_has_room": 2,
    "break_connection": 1,
    "kill_client": 1,
    "node_dies": 1,
    "node_drains": 1,
    "node_returns": 4,
    "node_sheds": 1,
    "node_moves_device": 1,
}
# Without a stream these make no sense.
OF_STREAM = {"carry_up", "carry_down", "break_connection", "node_moves_device"}


class World:
    """Everything that a run needs.

    Attributes:
        seen: What the application has, by channel: the ids of its entries.
        starts: Where its view of each channel began.
        dead, draining: The nodes that are.
        sheds: So many of the next streams are told to come back.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.server = Server(CHANNELS)
        self.store = MemoryStore()
        self.seen: dict[str, list[int]] = {}
        self.starts: dict[str, int] = {}
        self.inbox: deque[ev.Event] = deque()
        self.taken: list[ev.Event] = []  # not committed yet
        self.posted: list[tuple[str, str]] = []
        self.outcomes: dict[str, Sent | ChinwagError] = {}
        self.dead: set[str] = set()
        self.draining: set[str] = set()
        self.sheds = 0
        self.stream: Stream | None = None
        self.start()

    def start(self) -> None:
        """A process of the client begins."""
        self.stream = None
        self.up: deque[connect_pb2.ConnectRequest] = deque()
        self.down: deque[connect_pb2.ConnectResponse] = deque()
        self.fetches: deque[Fetch] = deque()
        endpoints = Endpoints(NODES, rng=self.rng, monotonic=self.clock.monotonic)
        self.protocol = DeviceProtocol(
            self.store.load(), clock=self.clock, rng=self.rng, endpoints=endpoints
        )

    def run(self, steps: int) -> None:
        """So many random steps."""
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        for name in self.rng.choices(names, weights, k=steps):
            if self.stream is None:
                self.connect()
            if self.stream is not None or name not in OF_STREAM:
                getattr(self, name)()

    # --- the skin ---

    def pump(self) -> None:
        output = self.protocol.take()
        self.up.extend(output.frames)
        self.inbox.extend(output.events)
        self.fetches.extend(output.fetches)
        for outcome in output.outcomes:
            name = outcome.client_message_id
            assert name not in self.outcomes, "resolved twice"
            result = outcome.sent or outcome.error
            assert result is not None
            self.outcomes[name] = result
            self.store.remove_sends([name])
        if self.protocol.drop:
            self.lose_connection(None)

    def connect(self) -> None:
        self.clock.now = max(self.clock.now, self.protocol.retry_at)
        self.protocol.connecting()
        address = self.protocol.plan.address
        if address in self.dead:
            self.lose_connection(Unavailable("connection refused", code=14))
            return
        if address in self.draining:
            error = Unavailable("going", reason="DRAINING", code=14, retry_after=1.0)
            self.lose_connection(error)
            return
        self.stream = Stream(self.server, address)
        if self.sheds:
            self.sheds -= 1
            close = close_pb2.Close(reason=Reason.CLOSE_REASON_OVERLOADED, reconnect=True)
            close.min_delay.FromSeconds(2)
            close.jitter.FromSeconds(1)
            self.stream.close(close)
        self.protocol.connected()
        self.pump()

    def lose_connection(self, error: ChinwagError | None) -> None:
        if self.stream is not None:
            self.stream.gone()
            self.stream = None
        self.up.clear()
        self.down.clear()
        self.fetches.clear()
        self.protocol.connection_lost(error)
        self.pump()

    # --- what happens ---

    def carry_up(self) -> None:
        for _ in range(min(self.rng.randint(1, 5), len(self.up))):
            assert self.stream is not None
            self.stream.receive(self.up.popleft())

    def carry_down(self) -> None:
        assert self.stream is not None
        self.down.extend(self.stream.out)
        self.stream.out.clear()
        count = min(self.rng.randint(1, 15), len(self.down))
        frames = [self.down.popleft() for _ in range(count)]
        if frames and self.rng.random() < 0.3:
            joined = connect_pb2.ConnectResponse()
            for frame in frames:
                joined.MergeFromString(frame.SerializeToString())
            frames = [joined]
        for frame in frames:
            self.protocol.receive(frame)
            if frame.events and self.rng.random() < 0.1:  # at least once to a device
                self.protocol.receive(connect_pb2.ConnectResponse(events=frame.events))
            self.pump()
            if self.is_broken():
                return

    def is_broken(self) -> bool:
        return self.stream is None

    def break_connection(self) -> None:
        self.lose_connection(Unavailable("broken", code=14))

    def kill_client(self) -> None:
        """The process dies; of what the application took, some is committed."""
        committed = self.rng.randint(0, len(self.taken))
        self.store.commit(self.taken[:committed])
        for event in reversed(self.taken[committed:]):
            if isinstance(event, ev.EntryEvent):
                assert self.seen[event.channel_id].pop() == event.entry.id
            elif isinstance(event, ev.ChannelOpened) and not self.seen.get(event.channel_id):
                # Its view of the channel is forgotten, and begins anew.
                if self.store_knows(event.channel_id):
                    continue
                self.starts.pop(event.channel_id, None)
        self.taken.clear()
        self.inbox.clear()
        if self.stream is not None:
            self.stream.gone()
        self.start()

    def node_dies(self) -> None:
        """Killed: what was on its way in both directions is lost."""
        address = self.rng.choice(NODES)
        self.dead.add(address)
        self.draining.discard(address)
        if self.stream is not None and self.stream.address == address:
            self.lose_connection(self.rng.choice([None, Unavailable("broken", code=14)]))

    def node_drains(self) -> None:
        """It ends its streams with guidance, and takes no new ones."""
        address = self.rng.choice(NODES)
        self.draining.add(address)
        if self.stream is not None and self.stream.address == address:
            close = close_pb2.Close(reason=Reason.CLOSE_REASON_DRAINING, reconnect=True)
            close.jitter.FromSeconds(5)
            self.stream.close(close)

    def node_returns(self) -> None:
        self.dead.clear()
        self.draining.clear()

    def node_sheds(self) -> None:
        self.sheds = self.rng.randint(1, 4)

    def node_moves_device(self) -> None:
        """To the other one, or to one that the device does not know."""
        assert self.stream is not None
        close = close_pb2.Close(
            reason=Reason.CLOSE_REASON_MOVED,
            reconnect=True,
            address=self.rng.choice([*NODES, "elsewhere:1", ""]),
        )
        self.stream.close(close)

    def application_is_slow(self) -> None:
        """Its queue is full, and events are passed over until it has room."""
        self.protocol.shedding = True

    def application_has_room(self) -> None:
        self.protocol.resume()
        self.pump()

    def store_knows(self, channel_id: str) -> bool:
        return any(cursor.channel_id == channel_id for cursor in self.store.load().cursors)

    def application_takes(self) -> None:
        for _ in range(min(self.rng.randint(1, 30), len(self.inbox))):
            event = self.inbox.popleft()
            self.taken.append(event)
            if isinstance(event, ev.EntryEvent):
                self.seen.setdefault(event.channel_id, []).append(event.entry.id)
            elif isinstance(event, ev.ChannelOpened):
                self.starts.setdefault(event.channel_id, event.cursor.id)

    def application_commits(self) -> None:
        self.store.commit(self.taken)
        self.taken.clear()

    def post(self) -> None:
        for _ in range(self.rng.randint(1, 8)):
            channel_id = self.rng.choice(CHANNELS)
            content = message_pb2.MessageContent(text=str(len(self.posted)))
            send = self.protocol.post(channel_id, content)
            self.store.add_send(send)
            self.posted.append((channel_id, send.request.client_message_id))
        self.pump()

    def others_talk(self) -> None:
        for _ in range(self.rng.randint(1, 6)):
            log = self.server.logs[self.rng.choice(CHANNELS)]
            self.server.say(log, "x", "bob", "")

    def membership_changes(self) -> None:
        log = self.server.logs[self.rng.choice(CHANNELS)]
        # A refusal whose answer is lost is tried again, and the server does not remember it: if the
        # reason has gone meanwhile it is stored after what followed it. No client can prevent that.
        if any(
            log.id == posted_to and name not in self.outcomes for posted_to, name in self.posted
        ):
            return
        if log.is_member:
            self.server.leave(log)
        else:
            self.server.join(log)

    def server_refuses(self) -> None:
        self.server.refuse = self.rng.randint(1, 4)

    def entries_get_lost(self) -> None:
        self.server.lose = self.rng.randint(1, 4)

    def answer_fetch(self) -> None:
        if not self.fetches:
            return
        fetch = self.fetches.popleft()
        if self.rng.random() < 0.2:
            self.protocol.fetch_failed(fetch.number)
        else:
            cursor = fetch.cursor
            answer = self.server.sync(cursor.channel_id, cursor.generation, cursor.id)
            self.protocol.fetched(fetch.number, answer)
        self.pump()

    def time_passes(self) -> None:
        self.clock.advance(self.rng.choice([0.1, 2.0, 35.0]))
        self.protocol.tick()
        self.pump()

    # --- the end ---

    def settle(self) -> None:
        """Nothing goes wrong any more: everything must come to rest."""
        self.server.refuse = self.server.lose = self.sheds = 0
        self.node_returns()
        self.application_has_room()
        if self.stream is not None:
            # What was lost at the very end shows when something follows, or at the next resume.
            self.lose_connection(None)
        for _ in range(3000):
            if self.stream is None:
                self.connect()
            elif self.up:
                self.carry_up()
            elif self.stream.out or self.down:
                self.carry_down()
            elif self.fetches:
                self.answer_fetch()
            elif len(self.protocol.outbox):
                self.time_passes()
            else:
                break
        else:
            raise AssertionError("it does not come to rest")
        while self.inbox:
            self.application_takes()

    def check(self) -> None:
        """What must hold once all is at rest."""
        for channel_id, log in self.server.logs.items():
            seen, start = self.seen.get(channel_id, []), self.starts.get(channel_id)
            if start is None:
                assert not log.is_member, "a channel that was never opened"
                assert not seen
                continue
            wanted = [i for i in range(start + 1, log.head + 1) if log.shows(i)]
            assert seen == wanted, f"{channel_id}: saw {seen}, should have seen {wanted}"
            own = [
                entry.message_sent.client_message_id
                for entry in log.entries
                if entry.actor_id == USER and entry.HasField("message_sent")
            ]
            told = [
                name
                for posted_to, name in self.posted
                if posted_to == channel_id and isinstance(self.outcomes[name], Sent)
            ]
            assert own == told, f"{channel_id}: stored {own}, told {told}"
            for name in own:
                outcome = self.outcomes[name]
                assert isinstance(outcome, Sent)
                assert outcome.message_id == self.server.stored[channel_id, name]
        refused = [o for o in self.outcomes.values() if isinstance(o, ChinwagError)]
        assert all(error.reason == "NOT_A_MEMBER" for error in refused)
