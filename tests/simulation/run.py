"""One seed's scenario: three nodes under faults, people who chat and retry, readers who check."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import sys
import uuid
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chinwag.chat.v1 import channel_pb2, chat_service_pb2
from chinwag_server.chat.sequenced import schema
from chinwag_server.chat.sequenced.tables import Delete, Put
from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.mesh import ownership, shard_keys, shards
from chinwag_server.rpc.errors import Refusal
from tests.simulation.checker import Violation
from tests.simulation.final import check_projections
from tests.simulation.loop import EPOCH_S, Stuck
from tests.simulation.replicas import Faults
from tests.simulation.world import NoAnswer, Node, World

SHARDS = 4
UNTIL_S = 7200.0
UNREST_S = 100.0
ROUNDS = 10
# Refusals after which the same call may succeed.
FOR_A_MOMENT = frozenset({"STORAGE_UNAVAILABLE", "OVERLOADED"})


@dataclass(slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        violation: What it broke, None: nothing.
    """

    seed: int
    violation: str | None
    history: list[str]
    acks: int = 0
    entries: int = 0
    steps: int = 0
    virtual_s: float = 0.0


def simulate(seeds: Iterable[int]) -> Iterator[Outcome]:
    """Runs seeds to their ends, one after the other."""
    with _quiet(), _few_shards():
        for seed in seeds:
            yield _run(Scenario(seed))
        # What still waits in the runs is thrown away here, where its last words are not heard.
        gc.collect()


def _run(scenario: Scenario) -> Outcome:
    world = scenario.world
    random.seed(world.seed)  # for the jitter of those who draw from it
    violation = None
    try:
        world.loop.run(scenario.main(), until=UNTIL_S)
        _check_defects(world)
    except (Violation, Stuck) as found:
        violation = f"{type(found).__name__}: {found}"
    return Outcome(
        world.seed,
        violation,
        world.history.lines,
        len(world.history.acked),
        scenario.entries,
        world.loop.steps,
        world.loop.now,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    hook = sys.unraisablehook
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)


@contextmanager
def _few_shards() -> Iterator[None]:
    """A thousand shards would be a thousand times the same."""
    modules: tuple[Any, ...] = (shards, shard_keys, ownership)
    before = shards.SHARDS
    for module in modules:
        module.SHARDS = SHARDS
    shards._draws.cache_clear()
    try:
        yield
    finally:
        for module in modules:
            module.SHARDS = before
        shards._draws.cache_clear()


def _check_defects(world: World) -> None:
    for error in world.loop.errors:
        defect = error.get("exception")
        if defect is not None and not isinstance(defect, StoreUnavailable | Refusal):
            raise Violation(f"a defect: {error.get('message')}: {defect!r}")


class Scenario:
    """What people do, and what is done to the mesh."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"scenario {seed}")
        self._faults = Faults(
            late=rng.choice((0, 0.3, 0.6)),
            late_s=rng.choice((2.0, 20.0, 60.0)),
            lost=rng.choice((0, 0.1, 0.25)),
            no_ack=rng.choice((0, 0.02, 0.15)),
            repair=rng.choice((0, 0.5, 1)),
            # The slower, the more is under way when somebody stops.
            delay_s=rng.choice((0.002, 0.05, 0.2)),
        )
        self.world = World(seed, faults=Faults())
        self.rng = self.world.rng
        self.unrest_s = rng.choice((1.5, 4.0, 10.0))
        self.pace = rng.choice((0.5, 2.0, 5.0))
        self.users = ("ann", "bob", "cid")
        self.channels: dict[str, str] = {}  # by name
        self.marks: dict[tuple[str, str], int] = {}
        self.over = False
        self.entries = 0
        self._ambush = rng.choice((0, 0.03, 0.1))
        self._running: set[asyncio.Task[None]] = set()

    async def main(self) -> None:
        """The whole of it."""
        world = self.world
        loop = world.loop
        for node in world.nodes:
            node.start()
        await self._make_channels()
        world.tables.faults = self._faults
        people = [loop.create_task(self._person(user)) for user in self.users]
        readers = [
            loop.create_task(self._reader(f"reader{n}", channel_id))
            for n in range(2)
            for channel_id in self.channels.values()
        ]
        unrest = loop.create_task(self._unrest())
        await asyncio.gather(*people)
        self.over = True
        await asyncio.gather(unrest, *readers)
        for channel_id in self.channels.values():
            log = await self._whole_log(channel_id)
            self.entries += len(log)
            world.history.check_log(channel_id, log)
            await check_projections(self, channel_id, log)

    # --- asking ---

    async def ask(self, user: str, method: str, *args: Any) -> Any:
        """Asks one node after the other until one answers.

        Raises:
            Refusal: One that will not change.
        """
        tried = 0
        while True:
            node = self._somebody(tried)
            tried += 1
            try:
                return await self.world.call(node, method, *args)
            except Refusal as refusal:
                if refusal.reason not in FOR_A_MOMENT:
                    raise
                why: Exception = refusal
            except (NoAnswer, StoreUnavailable) as error:
                why = error
            if not isinstance(why, StoreUnavailable):
                self._note(user, f"{method} at {node.name}: {why}")
            await asyncio.sleep(self.rng.uniform(0.01, 0.4))

    def _somebody(self, tried: int) -> Node:
        nodes = self.world.nodes
        return nodes[tried % len(nodes)] if tried else self.rng.choice(nodes)

    def _note(self, who: str, what: str) -> None:
        self.world.history.note(self.world.loop.now, who, what)

    def _id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _message_id(self) -> str:
        ms = int((EPOCH_S + self.world.loop.now) * 1000)
        raw = ms.to_bytes(6, "big") + self.world.bits(10)
        value = int.from_bytes(raw, "big") & ~(0xF << 76) & ~(0x3 << 62)
        return str(uuid.UUID(int=value | 0x7 << 76 | 0x2 << 62))

    # --- people ---

    async def _make_channels(self) -> None:
        for name, members, kind in (
            ("pair", ["bob"], channel_pb2.CHANNEL_KIND_DIRECT),
            ("group", ["bob", "cid"], channel_pb2.CHANNEL_KIND_GROUP),
        ):
            request = chat_service_pb2.CreateChannelRequest(
                kind=kind, member_user_ids=members, request_id=self._id()
            )
            answer = await self.ask("ann", "call", "ann", "CreateChannel", request)
            self.channels[name] = answer.channel.channel.id
            self._note("ann", f"made {name}, {answer.channel.channel.id}")

    async def _person(self, user: str) -> None:
        own: dict[str, list[int]] = {name: [] for name in self.channels}
        names = list(self.channels) if user != "cid" else ["group"]
        for number in itertools.count():
            if number >= ROUNDS and self.world.loop.now >= UNREST_S:
                return
            name = self.rng.choice(names)
            try:
                await self._act(user, name, own[name], number)
            except Refusal as refusal:
                self._note(user, f"is refused: {refusal.reason}")
            await asyncio.sleep(self.rng.expovariate(self.pace))

    async def _act(self, user: str, name: str, own: list[int], number: int) -> None:
        channel_id = self.channels[name]
        draw = self.rng.random()
        if draw < 0.6 or not own:
            count = self.rng.choice((1, 1, 1, 3))
            sends = [(self._message_id(), f"{user} {number}.{n}") for n in range(count)]
            await self._send(user, channel_id, sends, own)
        elif draw < 0.68:
            request = chat_service_pb2.EditMessageRequest(
                channel_id=channel_id, message_id=self.rng.choice(own), request_id=self._id()
            )
            request.content.text = f"{user} edits {number}"
            await self._call(user, "EditMessage", request)
        elif draw < 0.74:
            await self._call(
                user,
                "DeleteMessage",
                chat_service_pb2.DeleteMessageRequest(
                    channel_id=channel_id, message_id=own.pop(), request_id=self._id()
                ),
            )
        elif draw < 0.84:
            await self._call(
                user,
                "AddReaction",
                chat_service_pb2.AddReactionRequest(
                    channel_id=channel_id,
                    message_id=self.rng.choice(own),
                    emoji="+1",
                    request_id=self._id(),
                ),
            )
        elif draw < 0.92:
            mark = self.rng.choice(own)
            answer = await self._call(
                user,
                "MarkRead",
                chat_service_pb2.MarkReadRequest(channel_id=channel_id, read_id=mark),
            )
            if answer is not None:
                key = (channel_id, user)
                self.marks[key] = max(self.marks.get(key, 0), mark)
        elif user == "ann" and name == "group":
            await self._call(
                user,
                "RemoveMember",
                chat_service_pb2.RemoveMemberRequest(
                    channel_id=channel_id, user_id="cid", request_id=self._id()
                ),
            )
            await self._call(
                user,
                "AddMembers",
                chat_service_pb2.AddMembersRequest(
                    channel_id=channel_id, user_ids=["cid"], request_id=self._id()
                ),
            )

    async def _call(self, user: str, method: str, request: Any) -> Any:
        answer = await self.ask(user, "call", user, method, request)
        self._note(user, f"{method} in {request.channel_id[:4]}: done")
        return answer

    async def _send(
        self, user: str, channel_id: str, sends: list[tuple[str, str]], own: list[int]
    ) -> None:
        left = sends
        while left:
            answers = await self.ask(user, "send", user, channel_id, left)
            again: list[tuple[str, str]] = []
            for (key, text), answer in zip(left, answers, strict=True):
                if isinstance(answer, Refusal):
                    if answer.reason not in FOR_A_MOMENT:
                        raise answer
                    again.append((key, text))
                    continue
                self._note(user, f"{text!r} in {channel_id[:4]} is {answer.message_id}")
                self.world.history.ack(channel_id, user, key, answer.message_id, text)
                own.append(answer.message_id)
            if again:
                self._note(user, f"{len(again)} of {len(left)} sends have to be repeated")
                await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            left = again

    async def _reader(self, name: str, channel_id: str) -> None:
        position = 0
        while not self.over:
            entries = await self.ask(name, "read", channel_id, position)
            for entry_id, _ in entries:
                if entry_id != position + 1:
                    raise Violation(f"{channel_id}: {name} got {entry_id} after {position}")
                position = entry_id
            self.world.history.show(name, channel_id, entries)
            await asyncio.sleep(self.rng.uniform(0, 0.6))

    # --- what is done to them ---

    def _written(self, name: str, batch: Sequence[Put | Delete]) -> int:
        """Now and then somebody stops right when entries are under way, or their rows, and has
        reached some replicas alone: then most depends on it."""
        if batch[0].table not in (schema.ENTRIES, schema.SENDS):
            return 0
        if self.rng.random() >= self._ambush:
            return 0
        node = next(node for node in self.world.nodes if node.name == name)
        trouble = self.rng.choice((self._kill, self._pause))
        after_s = self.rng.choice((0, self.world.tables.delay(), 2 * self.world.tables.delay()))
        self.world.tables.at(after_s, lambda: self._start(trouble(node)))
        return self.rng.randrange(4)

    def _start(self, trouble: Coroutine[Any, Any, None]) -> None:
        task = self.world.loop.create_task(trouble)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _unrest(self) -> None:
        self.world.tables.on_write = self._written
        troubles = (
            self._kill,
            self._pause,
            self._pause,
            self._replica,
            self._no_etcd,
            self._no_tables,
        )
        # Not without an end: where everything breaks all the time nothing would ever be done.
        while not self.over and self.world.loop.now < UNREST_S:
            await asyncio.sleep(self.rng.expovariate(1 / self.unrest_s))
            node = self._victim()
            self._start(self.rng.choice(troubles)(node))
        self.world.tables.on_write = lambda _name, _batch: 0
        await asyncio.gather(*self._running)
        self._calm()

    def _victim(self) -> Node:
        """More often than not one that owns a channel."""
        nodes = self.world.nodes
        shard = shards.shard_of(self.rng.choice(list(self.channels.values())))
        owners = [n for n in nodes if n.up and n.ownership.epoch_of(shard) is not None]
        return self.rng.choice(owners if owners and self.rng.random() < 0.7 else nodes)

    async def _kill(self, node: Node) -> None:
        if not node.up:
            return
        assert node.process is not None
        self._note(node.name, "is killed")
        self.world.loop.kill(node.process)
        await asyncio.sleep(self.rng.uniform(0.05, 4))
        node.start()

    async def _pause(self, node: Node) -> None:
        process = node.process
        if process is None or process.paused or not process.alive:
            return
        # Shorter than a lease, about as long, or much longer.
        seconds = self.rng.choice((self.rng.uniform(0.05, 2), self.rng.uniform(2, 9)))
        self._note(node.name, f"stands still for {seconds:.1f} s")
        self.world.loop.pause(process)
        await asyncio.sleep(seconds)
        self.world.loop.resume(process)
        self._note(node.name, "goes on")

    async def _replica(self, _node: Node) -> None:
        down = self.world.tables.down
        if down:
            return
        place = self.rng.randrange(3)
        down.add(place)
        self._note("tables", f"replica {place} is down")
        await asyncio.sleep(self.rng.uniform(0.5, 8))
        down.discard(place)
        self._note("tables", f"replica {place} is back")

    async def _no_etcd(self, node: Node) -> None:
        node.coordination_cut = True
        self._note(node.name, "does not reach etcd")
        await asyncio.sleep(self.rng.uniform(0.5, 8))
        node.coordination_cut = False

    async def _no_tables(self, node: Node) -> None:
        self.world.tables.cut_off.add(node.name)
        self._note(node.name, "does not reach the tables")
        await asyncio.sleep(self.rng.uniform(0.5, 8))
        self.world.tables.cut_off.discard(node.name)

    def _calm(self) -> None:
        world = self.world
        world.tables.faults = Faults()
        world.tables.down.clear()
        world.tables.cut_off.clear()
        for node in world.nodes:
            node.coordination_cut = False
            if not node.up:
                node.start()
        self._note("world", "is calm")

    async def _whole_log(self, channel_id: str) -> list[tuple[int, bytes]]:
        log: list[tuple[int, bytes]] = []
        while entries := await self.ask("the end", "read", channel_id, len(log)):
            log += entries
        return log
