"""What makes a chat room one of many: puts the parts of `chat.routed` together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.channels import Channels
from chinwag_server.chat.entries import parse, time_us
from chinwag_server.chat.feed import FeedLog
from chinwag_server.chat.marks import Marks
from chinwag_server.chat.routed.answers import FORGET, REDACT, ChannelAnswers
from chinwag_server.chat.routed.calls import RoutedCalls
from chinwag_server.chat.routed.edge import Edge
from chinwag_server.chat.routed.fanout import Fanout, FanoutLimits
from chinwag_server.chat.routed.feed import MeshFeed
from chinwag_server.chat.routed.feed_ends import KnownEnds, answer
from chinwag_server.chat.routed.inboxes import Inboxes
from chinwag_server.chat.routed.outages import Outages
from chinwag_server.chat.routed.owners import Owners
from chinwag_server.chat.routed.reading import EdgeReads
from chinwag_server.chat.routed.registered import Registered, RegisteredListeners
from chinwag_server.chat.routed.sends import RoutedSends, Sender
from chinwag_server.chat.routed.signals import RoutedSignals
from chinwag_server.chat.routed.stamps import Stamps
from chinwag_server.chat.routed.topics import Topics
from chinwag_server.chat.routed.whereabouts import Whereabouts
from chinwag_server.chat.sequenced.feed import FeedEnds
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.sequenced.tables import Tables
from chinwag_server.chat.servicer import ChatServicer
from chinwag_server.chat.store import AppendEntry, ChannelRecord, StoreUnavailable
from chinwag_server.clock import Clock
from chinwag_server.mesh.bus import Bus
from chinwag_server.mesh.inbox import Inbox, RaiseGeneration
from chinwag_server.mesh.links import Links
from chinwag_server.mesh.ownership import Epoch
from chinwag_server.mesh.sessions import Sessions
from chinwag_server.mesh.shards import shard_of
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.rpc.errors import Refusal

log = logging.getLogger(__name__)

# What was committed so long before a channel's head was told by its owner of then.
ANNOUNCE_S = 60.0
ANNOUNCE_MOST = 128
# Channels whose head is older than this, by the clock of that owner, were told of whole. It must
# be more than a clock may be off.
ANNOUNCE_HEAD_S = 2 * 3600.0
RETRY_S = 0.5
# Whose channels are taken over at one time: a node that starts wins hundreds.
SHARDS_AT_ONCE = 8
LOOKED_AT_S = 10.0
# By which this node's clock may differ from the inboxes' before it is said, and how often to look.
CLOCK_OFF_S = 5.0
COMPARE_S = 5.0


# (channel, argument) -> done.
OwnCall = Callable[[str, str], Awaitable[None]]


@dataclass(slots=True, frozen=True)
class Engines:
    """What the nodes share, and their links."""

    tables: Tables
    links: Links
    bus: Bus
    sessions: Sessions
    inbox: Inbox
    raise_generation: RaiseGeneration


class Across:
    """The mesh's side of a chat room.

    Args:
        owners: Who owns channels.
        nodes: The other nodes that live.
        generation: Of the store.
        feed: Whether commits are noted for StreamEvents; the same on all nodes.

    Attributes:
        feed_ends: For the store; None: no feed is written.
        feed: For the room; None: as above.
        resume: Ends streams with guidance to come back: of users, or of all (None).
        replace: Ends a device's stream that came before a time.
        listeners, delivery, reads: For the room.
    """

    def __init__(
        self,
        engines: Engines,
        owners: Owners,
        *,
        nodes: Callable[[], Collection[str]],
        generation: int,
        limits: FanoutLimits,
        clock: Clock,
        feed: bool = True,
    ) -> None:
        self._owners = owners
        self._nodes = nodes
        self._links = engines.links
        self._clock = clock
        self.resume: Callable[[Collection[str] | None], None] = lambda _users: None
        self.replace: Callable[[str, str, int], None] = lambda _user, _device, _before_us: None
        self._inboxes = Inboxes(engines.inbox, engines.raise_generation, clock)
        self._stamps = Stamps(engines.inbox, clock)
        self.listeners = RegisteredListeners()
        self.reads = EdgeReads(
            engines.tables,
            owners,
            engines.links,
            self._own_heads,
            self._stamps,
            generation=generation,
        )
        self.feed_ends = FeedEnds() if feed else None
        self._known_ends: KnownEnds | None = None
        self.feed: FeedLog | None = None
        if self.feed_ends is not None:
            self._known_ends = KnownEnds(owners.node_id, self.feed_ends, engines.links, nodes)
            self.feed = MeshFeed(engines.tables, self.reads, self._known_ends)
        self._edge = Edge(self.listeners, self.reads, self._resume)
        self._whereabouts = Whereabouts(engines.sessions, clock)
        self._registered = Registered(
            owners.node_id,
            engines.sessions,
            clock,
            unknown=self._say_unknown,
            lapsed=lambda: self._resume(None),
        )
        self.listeners.note_in(self._registered)
        self.delivery = Fanout(
            owners.node_id,
            self._edge,
            engines.links,
            engines.bus,
            self._whereabouts,
            limits,
            nodes=nodes,
            touch=self._inboxes.touch_soon,
        )
        self._topics = Topics(engines.bus, owners, engines.links, clock, self._edge.told)
        self._answers: ChannelAnswers | None = None
        self._channels: Channels | None = None
        self._own_calls: dict[str, OwnCall] = {}
        self.calls = RoutedCalls(owners, engines.links)
        self._outages = Outages(clock)
        self._taking_over = asyncio.Semaphore(SHARDS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        engines.links.on_change(self._link_changed)

    # --- the room ---

    def before(self, sends: Sender, marks: Marks) -> tuple[RoutedSends, RoutedSignals]:
        """What devices' streams talk to instead of the room's own rules."""
        return (
            RoutedSends(self._owners, self._links, sends),
            RoutedSignals(self._owners, self._links, marks),
        )

    def attach(
        self,
        channels: Channels,
        sends: Sender,
        marks: Marks,
        servicer: ChatServicer,
        forget: OwnCall,
        redact: OwnCall,
    ) -> None:
        """Takes the room's own rules, for what other nodes ask."""
        self._channels = channels
        self._own_calls = {FORGET: forget, REDACT: redact}
        self._answers = ChannelAnswers(
            self._owners,
            sends=sends,
            servicer=servicer,
            marks=marks,
            channel=channels.store.channel,
            watched=self._whereabouts.watch,
            own_calls=self._own_calls,
        )

    async def forget(self, channel_id: str, user_id: str) -> None:
        """Ends a deleted user's membership, by the channel's owner.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        await self._own_call(FORGET, channel_id, user_id)

    async def redact(self, channel_id: str, message_id: str) -> None:
        """Takes the content out of a message, by the channel's owner.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        await self._own_call(REDACT, channel_id, message_id)

    async def _own_call(self, method: str, channel_id: str, argument: str) -> None:
        call = pb.Call(method=method, channel_id=channel_id, request=argument.encode())

        async def local() -> bytes:
            await self._own_calls[method](channel_id, argument)
            return b""

        await self.calls.ask(channel_id, pb.Question(call=call), local, repeatable=True)

    def start(self) -> None:
        """Begins to tell and to hear."""
        self.delivery.start()
        self._registered.start()
        self._topics.start()
        for work in (self._stamps.run(), self._look_again(), self._compare_clocks()):
            task = asyncio.ensure_future(work)
            self._tasks.add(task)

    async def stop(self) -> None:
        """Ends it."""
        await self._registered.stop()
        await self.delivery.stop()
        await self._topics.stop()
        await self._edge.stop()
        if self._known_ends is not None:
            await self._known_ends.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def follow(self, node_ids: Collection[str]) -> None:
        """Says which the other nodes are, before links to them are opened."""
        self._outages.follow(node_ids)

    # --- what other nodes say: mesh.links.Answers ---

    def told(self, node_id: str, news: pb.News) -> None:
        """News of a node."""
        match news.WhichOneof("news"):
            case "whereabouts":
                self._whereabouts.unknown(node_id, news.whereabouts.unknown)
            case "subscribed":
                for channel_id in news.subscribed.channel_ids:
                    self._whereabouts.subscribe(channel_id, node_id)
            case "came":
                self.replace(news.came.user_id, news.came.device_id, news.came.time_us)
            case "missed":
                self._resume(None)
            case _:
                self._edge.told(news)
                if news.entries.published:
                    self._topics.published(news.entries.channel_id)

    async def asked(self, node_id: str, question: pb.Question) -> pb.Answer:
        """A question of a node."""
        await asyncio.sleep(0)  # in a task of its own: rules may ask for it
        if question.HasField("feed_ends") and self.feed_ends is not None:
            return pb.Answer(feed_ends=await answer(self.feed_ends, question.feed_ends.after))
        if self._answers is None:
            return pb.Answer(error=Refusal("DRAINING", "the node starts").status())
        return await self._answers.asked(node_id, question)

    async def _compare_clocks(self) -> None:
        """Says if this node's clock is off. Nothing is lost by it, but what it stores has wrong
        times, and its judgement of what has ended is wrong, such as of tokens."""
        is_off = False
        while True:
            await asyncio.sleep(COMPARE_S)
            off_s = (self._clock.time_us() - self._stamps.time_us()) / 1e6
            if abs(off_s) > CLOCK_OFF_S and not is_off:
                log.error(
                    "this machine's clock is %.0f s %s that of Redis: correct whichever is wrong; "
                    "until then messages get wrong times, and tokens end early or late",
                    abs(off_s),
                    "ahead of" if off_s > 0 else "behind",
                )
            elif is_off and abs(off_s) <= CLOCK_OFF_S:
                log.info("this machine's clock is that of Redis again")
            is_off = abs(off_s) > CLOCK_OFF_S

    # --- a device is at one node ---

    def time_us(self) -> int:
        """Microseconds since 1970 on a clock that the nodes share, as long as it can be read."""
        return self._stamps.time_us()

    def device_came(self, user_id: str, device_id: str, time_us: int) -> None:
        """A device opened a stream here: tells the nodes that may have an older one."""
        came = pb.Came(user_id=user_id, device_id=device_id, time_us=time_us)
        task = asyncio.ensure_future(self._tell_came(came))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell_came(self, came: pb.Came) -> None:
        targets = await self._whereabouts.of([came.user_id], ())
        for node_id in targets.by_node([came.user_id], self._nodes()):
            self._links.tell(node_id, pb.News(came=came))

    async def _own_heads(self, node_id: str, channel_ids: Sequence[str]) -> pb.ChannelHeadsResult:
        assert self._answers is not None
        return await self._answers.heads(node_id, channel_ids)

    def _resume(self, users: Collection[str] | None) -> None:
        self.resume(users)

    def _say_unknown(self, unknown: bool) -> None:
        self._whereabouts.unknown(self._owners.node_id, unknown)
        for node_id in self._nodes():
            news = pb.News(whereabouts=pb.Whereabouts(unknown=unknown))
            self._links.tell(node_id, news)

    def _link_changed(self, node_id: str, up: bool) -> None:
        if not up:
            self._outages.down(node_id)
        elif self._outages.up(node_id):
            self._links.tell(node_id, pb.News(missed=pb.Missed()))

    # --- owning ---

    async def before_ack(self, channel_id: str, entries: Sequence[AppendEntry]) -> None:
        """Notes a commit in its members' inboxes: `SequencedStore.before_ack`.

        Raises:
            StoreUnavailable: It cannot be noted, and must not be acked.
        """
        try:
            await self._inboxes.touch(channel_id, await self._members(channel_id))
        except Unavailable as error:
            raise StoreUnavailable(str(error)) from error

    async def _members(self, channel_id: str) -> Collection[str]:
        log = self._channels.loaded(channel_id) if self._channels is not None else None
        if log is None:
            rows = await self.reads.members(channel_id)
            # Among what is noted may be the entry that ended a membership.
            return [row.user_id for row in rows if row.role or row.ranges]
        if log.is_broadcast:
            return ()
        return log.live_members | {row.user_id for row in log.members.values() if row.role}

    async def take_over(self, store: SequencedStore, epoch: Epoch) -> None:
        """Takes over the channels of a shard that were in use, and tells of what may have been told
        to nobody. Tries until the epoch ends."""
        while epoch.alive():
            try:
                async with self._taking_over:
                    await store.take_over_touched(epoch, partial(self._announce, store))
                return
            except StoreUnavailable as error:
                log.warning("shard %d is not taken over yet: %s", epoch.shard, error)
                await asyncio.sleep(RETRY_S)

    async def _announce(self, store: SequencedStore, channel_id: str, _head_id: int) -> None:
        record = await store.channel(channel_id)
        # By the inboxes' clock: this node's may be off too.
        since_us = self._stamps.time_us() - int(ANNOUNCE_HEAD_S * 1e6)
        if record is None or record.head_time_us < since_us:
            return
        rows = await self.reads.members(channel_id)
        since_id = await self._before(store, record, record.head_time_us - int(ANNOUNCE_S * 1e6))
        users = [row.user_id for row in rows if row.role or row.ranges]
        if users:
            self.delivery.announce(channel_id, since_id, record.head_id, users)

    @staticmethod
    async def _before(store: SequencedStore, record: ChannelRecord, since_us: int) -> int:
        """The last entry before a time."""
        since_id = max(0, record.head_id - ANNOUNCE_MOST)
        head_id = record.head_id
        entries = await store.entries(record.channel_id, since_id, head_id, ANNOUNCE_MOST, 1 << 20)
        for entry in entries:
            if time_us(parse(entry.payload).create_time) >= since_us:
                break
            since_id = entry.id
        return since_id

    def lost(self, store: SequencedStore, epoch: Epoch) -> None:
        """An epoch is over: its channels are not ours, and what follows comes from elsewhere."""
        assert self._channels is not None
        store.forget(epoch)
        self._channels.forget(lambda channel_id: shard_of(channel_id) == epoch.shard)

    # --- channels that are looked at ---

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOKED_AT_S)
            channel_ids = list(self.listeners.looked_at())
            if not channel_ids:
                continue
            try:
                for record in await self.reads.heads(channel_ids):
                    if record is not None:
                        at = self._edge.position(record.channel_id)
                        since = record.head_id if at is None else at
                        self._edge.head(record.channel_id, since, record.head_id, None)
            except StoreUnavailable as error:
                log.warning("channels that are looked at may lag: %s", error)
