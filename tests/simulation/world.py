"""One run: nodes, clients and a network in virtual time, all of it decided by a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from chinwag.chat.v1 import connect_pb2
from chinwag_server.chat.channel import ChannelLog
from chinwag_server.chat.ids import direct_channel_id
from chinwag_server.chat.room import ChatRoom, ChatSettings
from chinwag_server.chat.sends import Sent
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.store import AppendEntry, StoreUnavailable
from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.membership import (
    PREFIX,
    Membership,
    NodeRecord,
    NodeState,
    new_node_id,
    serving,
)
from chinwag_server.mesh.memory_coordination import MemoryCluster, MemoryCoordination
from chinwag_server.mesh.ownership import Epoch, EpochRefused, Ownership, Owning
from chinwag_server.mesh.shard_keys import BASE
from chinwag_server.mesh.shards import shard_of
from chinwag_server.rpc.caller import Caller, set_caller
from chinwag_server.rpc.errors import Refusal
from tests.simulation.checker import History
from tests.simulation.flavours import CALL_S
from tests.simulation.loop import Loop, Process, SimClock
from tests.simulation.replicas import Cluster, Faults, SimTables

GENERATION = 5
MAX_STEPS = 300_000  # ten times as many as are usual
# Short, so that owners change often. Two clocks may differ by a fifth.
TTL_S = 3
TELL_S = 0.1
MARGIN_S = 0.7


class NoAnswer(Exception):
    """A call over the network was not answered in time."""


class Everybody:
    """`chat.directory.Directory`: all users live and like each other."""

    async def existing(self, user_ids: Collection[str]) -> set[str]:
        return set(user_ids)

    async def may_write(self, sender_id: str, recipient_id: str) -> bool:
        return True

    async def may_add(self, adder_id: str, user_id: str) -> bool:
        return True


async def _authenticate(token: str) -> Caller:
    return Caller(token)


class Node:
    """One node of the mesh and its lives. What is called through the network is named `on_...`."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.lives = 0
        self.process: Process | None = None
        self.ownership: Ownership
        self.membership: Membership
        self.tables: SimTables
        self.room: ChatRoom
        self.store: SequencedStore
        self.coordination_cut = False

    @property
    def up(self) -> bool:
        """Whether there is a process, also a paused one."""
        return self.process is not None and self.process.alive

    @property
    def runs(self) -> bool:
        """Whether its process lives and does not stand still."""
        return self.process is not None and self.process.alive and not self.process.paused

    def start(self) -> None:
        """A new process; there must be none."""
        assert not self.up
        self.lives += 1
        world = self.world
        rate = world.rng.uniform(0.9, 1.1)
        self.process = world.loop.process(f"{self.name}.{self.lives}", rate=rate)
        world.history.note(world.loop.now, self.process.name, f"starts, its clock at {rate:.2f}")
        with world.loop.inside(self.process):
            clock = SimClock(world.loop, self.process)
            coordination = MemoryCoordination(world.etcd, clock, self._travel)
            self.ownership = Ownership(
                coordination,
                clock,
                world.bits,
                node_id := new_node_id(world.bits),
                Owning(self._confirm, self._won, self._hand_over, self._lost),
                ttl_s=TTL_S,
                margin_s=MARGIN_S,
            )
            self.membership = Membership(
                coordination,
                clock,
                NodeRecord(node_id, self.name, state=NodeState.SERVING),
                cluster_id="simulated",
                changed=lambda nodes: self.ownership.assign(serving(nodes)),
                ttl_s=TTL_S,
                margin_s=MARGIN_S,
            )
            self.tables = SimTables(world.tables, self.name)
            self.store = SequencedStore(
                self.tables,
                lambda channel_id: self.ownership.epoch_of(shard_of(channel_id)),
                self.ownership.give_up,  # type: ignore[arg-type]
                generation=GENERATION,
                clock=clock,
                max_open=world.max_open,
            )
            self.room = ChatRoom(
                self.store,
                Everybody(),
                authenticate=_authenticate,
                settings=ChatSettings(max_members_in_memory=world.max_open),
                clock=clock,
                random_bytes=world.bits,
                is_mine=lambda channel_id: (
                    self.ownership.epoch_of(shard_of(channel_id)) is not None
                ),
            )
            self.room.channels.on_entry = self._committed
            world.loop.create_task(self._run())

    async def _run(self) -> None:
        self.ownership.start()
        while True:
            try:
                await self.membership.start()
                return
            except CoordinationUnavailable:
                await asyncio.sleep(0.5)

    async def leave(self, grace_s: float) -> None:
        """Hands all over and leaves the mesh."""
        with contextlib.suppress(CoordinationUnavailable):
            await self.membership.set_state(NodeState.DRAINING)
        await self.ownership.stop(grace_s)
        # What was committed last is told of.
        await asyncio.sleep(2 * TELL_S)
        await self.membership.stop()

    def _committed(self, log: ChannelLog, entry: AppendEntry) -> None:
        """Those who hold members' streams are told a moment later, in batches."""
        self.room.hub.on_entry(log, entry)
        asyncio.get_running_loop().call_later(TELL_S, self._tell, log.id, entry.id)

    async def _tell_later(self, channel_id: str, head_id: int) -> None:
        await asyncio.sleep(TELL_S)
        self._tell(channel_id, head_id)

    def _tell(self, channel_id: str, head_id: int) -> None:
        told = self.world.told
        told[channel_id] = max(told.get(channel_id, 0), head_id)

    async def _travel(self) -> None:
        world = self.world
        await asyncio.sleep(world.tables.delay())
        if self.coordination_cut or world.etcd_down:
            await asyncio.sleep(1.0)
            raise CoordinationUnavailable("cut off")

    # --- owning ---

    async def _confirm(self, epoch: Epoch) -> None:
        stored = await self.tables.claim(epoch.shard, epoch.number, epoch.nonce)
        if stored != (epoch.number, epoch.nonce):
            raise EpochRefused(f"stored is epoch {stored[0]}")

    def _won(self, epoch: Epoch) -> None:
        self._say(f"owns shard {epoch.shard} in epoch {epoch.number}")
        self.world.loop.create_task(self._take_over(epoch))

    async def _take_over(self, epoch: Epoch) -> None:
        while epoch.alive():
            try:
                await self.store.take_over_touched(epoch, self._tell_later)
                return
            except StoreUnavailable:
                await asyncio.sleep(0.5)

    async def _hand_over(self, epoch: Epoch) -> None:
        await self.store.hand_over(epoch)
        self._say(f"hands shard {epoch.shard} over")

    def _lost(self, epoch: Epoch) -> None:
        self._say(f"lost shard {epoch.shard}")
        self.store.forget(epoch)
        self.room.channels.forget(lambda channel_id: shard_of(channel_id) == epoch.shard)

    def _say(self, what: str) -> None:
        assert self.process is not None
        self.world.history.note(self.world.loop.now, self.process.name, what)

    # --- what clients may ask ---

    async def on_call(self, user: str, method: str, request: Any) -> Any:
        """A unary method of ChatService."""
        set_caller(Caller(user, f"{user}-1"))
        return await getattr(self.room.servicer, method)(request, None)

    async def on_send(
        self, user: str, channel_id: str, sends: Sequence[tuple[str, str]]
    ) -> list[Sent | Refusal]:
        """Sends texts, each under its key."""
        caller = Caller(user, f"{user}-1")
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Sent | Refusal]] = [loop.create_future() for _ in sends]

        def answer(index: int, what: Sent | Refusal) -> None:
            if not answers[index].done():
                answers[index].set_result(what)

        requests = [
            connect_pb2.SendMessageRequest(channel_id=channel_id, client_message_id=key)
            for key, _ in sends
        ]
        for request, (_, text) in zip(requests, sends, strict=True):
            request.content.text = text
        await self.room.streams.sends.send(caller, requests, answer)
        return list(await asyncio.gather(*answers))

    async def on_read(self, channel_id: str, after_id: int) -> list[tuple[int, bytes]]:
        """The entries after an id, up to the head that this owner has announced."""
        log = await self.room.channels.get(channel_id)
        if log is None or log.committed_id <= after_id:
            return []
        entries = await self.store.entries(channel_id, after_id, log.committed_id, 50, 1 << 20)
        return [(entry.id, entry.payload) for entry in entries]

    async def on_state(self, channel_id: str, message_ids: Sequence[int]) -> dict[str, Any]:
        """What is stored of a channel, for the checker."""
        record = await self.store.channel(channel_id)
        if record is None:
            raise StoreUnavailable("the channel is not there")
        members = await self.store.members(channel_id)
        own_rows = {}
        for row in members:
            for other, own in await self.store.user_channels(row.user_id):
                if other.channel_id == channel_id:
                    own_rows[row.user_id] = own
        # At once: a caller does not wait for the sum of them.
        messages = await asyncio.gather(
            *(self.store.message(channel_id, number) for number in message_ids)
        )
        return {
            "head": (record.head_id, record.head_count),
            "member_count": record.member_count,
            "members": members,
            "own_rows": own_rows,
            "messages": dict(zip(message_ids, messages, strict=True)),
        }

    async def on_find(self, channel_id: str, sender: str, key: bytes) -> Any:
        """What is remembered of a send."""
        return await self.store.find_sends([(channel_id, sender, key)])


class World:
    """Everything that one seed decides.

    Args:
        max_steps: After which a run is stuck.
        call_s: How long a client waits for an answer.
    """

    def __init__(
        self,
        seed: int,
        *,
        faults: Faults,
        max_open: int,
        nodes: int = 3,
        max_steps: int = MAX_STEPS,
        call_s: float = CALL_S,
    ) -> None:
        self.seed = seed
        self._call_s = call_s
        self.max_open = max_open
        self.rng = random.Random(seed)
        self.loop = Loop(max_steps=max_steps)  # type: ignore[abstract]  # nothing asks for the rest
        self.history = History()
        self.tables = Cluster(self.loop, self.rng, faults)
        self.etcd = MemoryCluster(SimClock(self.loop, self.loop.process("etcd")))
        self.etcd_down = False
        self.told: dict[str, int] = {}  # the head that members have heard of, by channel
        self.nodes: Sequence[Node] = [Node(self, f"node{number}") for number in range(1, nodes + 1)]

    def bits(self, count: int) -> bytes:
        """The seed's random bytes."""
        return self.rng.randbytes(count)

    def raise_epochs(self) -> None:
        """What is to be done after etcd was restored: new epochs are above all that are stored."""
        above = max((epoch for epoch, _ in self.tables.epochs.values()), default=0)
        base = above - self.etcd.snapshot("").revision
        if base > 0:
            self.etcd.write(f"{PREFIX}shards/{BASE}", str(base).encode(), 0)

    async def call(self, node: Node, method: str, *args: Any) -> Any:
        """Asks a node over the network. It may wait for ever there, and the answer may be lost.

        Raises:
            NoAnswer: Nothing came in time.
            Refusal, StoreUnavailable: What the node said.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        process = node.process
        rng, faults = self.rng, self.tables.faults

        def settle(result: Any, error: BaseException | None) -> None:
            if done.done() or rng.random() < faults.lost:
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        async def handle() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = await getattr(node, f"on_{method}")(*args)
            except (Refusal, StoreUnavailable) as refused:
                error = refused
            except Exception as defect:
                self.loop.call_exception_handler({"message": method, "exception": defect})
            self.tables.at(self.tables.delay(), lambda: settle(result, error))

        def arrive() -> None:
            if process is not None and process is node.process:
                with self.loop.inside(process):
                    self.loop.call_soon(lambda: self.loop.create_task(handle()))

        if rng.random() >= faults.lost:
            self.tables.at(self.tables.delay(), arrive)
        try:
            async with asyncio.timeout(self._call_s):
                return await done
        except TimeoutError:
            raise NoAnswer(f"{node.name} did not answer {method}") from None


Work = Callable[[], Awaitable[None]]


def pair(first: str, second: str) -> str:
    """The direct channel of two users."""
    return direct_channel_id(first, second)
