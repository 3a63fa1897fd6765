"""One run: nodes, clients and a network in virtual time, all of it decided by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, connect_pb2
from chinwag_server.chat.ids import direct_channel_id
from chinwag_server.chat.room import ChatRoom, ChatSettings
from chinwag_server.chat.sends import Sent
from chinwag_server.chat.sequenced.store import SequencedStore
from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.memory_coordination import MemoryCluster, MemoryCoordination
from chinwag_server.rpc.caller import Caller, set_caller
from chinwag_server.rpc.errors import Refusal
from tests.simulation.checker import History
from tests.simulation.loop import Loop, Process, SimClock
from tests.simulation.owning import Owning
from tests.simulation.replicas import Cluster, Faults, SimTables

GENERATION = 5
CALL_S = 10.0


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
        self.owning: Owning
        self.room: ChatRoom
        self.store: SequencedStore
        self.coordination_cut = False

    @property
    def up(self) -> bool:
        """Whether there is a process, also a paused one."""
        return self.process is not None and self.process.alive

    def start(self) -> None:
        """A new process."""
        self.lives += 1
        world = self.world
        rate = world.rng.uniform(0.9, 1.1)
        self.process = world.loop.process(f"{self.name}.{self.lives}", rate=rate)
        world.history.note(world.loop.now, self.process.name, f"starts, its clock at {rate:.2f}")
        with world.loop.inside(self.process):
            clock = SimClock(world.loop, self.process)
            tables = SimTables(world.tables, self.name)
            coordination = MemoryCoordination(world.etcd, clock, self._travel)
            self.owning = Owning(coordination, clock, world.bits(16), tables.claim, self._lost)
            self.store = SequencedStore(
                tables, self.owning.epoch_of, generation=GENERATION, clock=clock
            )
            self.room = ChatRoom(
                self.store,
                Everybody(),
                authenticate=_authenticate,
                settings=ChatSettings(),
                clock=clock,
                random_bytes=world.bits,
            )
            world.loop.create_task(self.owning.run())

    async def _travel(self) -> None:
        world = self.world
        await asyncio.sleep(world.tables.delay())
        if self.coordination_cut or world.etcd_down:
            await asyncio.sleep(1.0)
            raise CoordinationUnavailable("cut off")

    def _lost(self, shard: int) -> None:
        channels = self.room.channels
        for log in list(channels._logs.values()):
            if self.owning.shard_of(log.id) == shard:
                channels.drop(log)

    # --- what clients may ask ---

    async def on_create(self, user: str, members: Sequence[str], request_id: str) -> str:
        """Makes the direct channel of two users."""
        set_caller(Caller(user, f"{user}-1"))
        request = chat_service_pb2.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_DIRECT, member_user_ids=members, request_id=request_id
        )
        answer = await self.room.servicer.CreateChannel(request, None)
        return str(answer.channel.channel.id)

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


class World:
    """Everything that one seed decides."""

    def __init__(self, seed: int, *, faults: Faults, nodes: int = 3) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = Loop()
        self.history = History()
        self.tables = Cluster(self.loop, self.rng, faults)
        self.etcd = MemoryCluster(SimClock(self.loop, self.loop.process("etcd")))
        self.etcd_down = False
        self.nodes = [Node(self, f"node{number}") for number in range(1, nodes + 1)]

    def bits(self, count: int) -> bytes:
        """The seed's random bytes."""
        return self.rng.randbytes(count)

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
            async with asyncio.timeout(CALL_S):
                return await done
        except TimeoutError:
            raise NoAnswer(f"{node.name} did not answer {method}") from None


Work = Callable[[], Awaitable[None]]


def pair(first: str, second: str) -> str:
    """The direct channel of two users."""
    return direct_channel_id(first, second)
