"""A mesh with proxies between its processes, people on it, and the judgement of what they saw."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from chinwag.chat.v1 import channel_pb2
from chinwag_server.cli.replay.admin import Admin
from tests.faults.check import Broken, Log, check_devices, check_logs, check_state
from tests.faults.crowd import Crowd
from tests.faults.history import History
from tests.faults.links import Links
from tests.faults.stillness import Stillness, stillness
from tools.mesh import Mesh, temporary_folder

LEASE_S = 5.0
# Long enough that connections can be seen to move one by one.
DRAIN_S = 12.0
SETTINGS = {
    "CHINWAG_ACCOUNT_ARGON2_MEMORY_KIB": "64",
    "CHINWAG_ACCOUNT_ARGON2_PASSES": "1",
    "CHINWAG_MESH_LEASE_S": f"{LEASE_S:.0f}",
    # One channel goes by pub/sub.
    "CHINWAG_MESH_DIRECT_MEMBERS": "10",
    "CHINWAG_DEADLINES_DRAIN_MS": f"{DRAIN_S * 1000:.0f}",
}
# All is quiet within this time of the last fault, and of the last send.
QUIET_S = 30.0
CALM_S = 1.0
POLL_S = 0.05
STATES_S = 10.0
# All is judged again after each fault, so that people with a long history are replaced.
LONG_HISTORY = 8000


class Stage:
    """All of it.

    Args:
        report: Gets a line about each fault.
        people: How many.
        rate: Messages a second of each.

    Attributes:
        turn: What strikes one node strikes the next one if this is one more.
    """

    def __init__(
        self,
        mesh: Mesh,
        links: Links,
        admin: Admin,
        report: Callable[[str], None],
        *,
        people: int,
        rate: float,
    ) -> None:
        self.mesh = mesh
        self.links = links
        self.turn = 0
        self._admin = admin
        self._report = report
        self._people, self._rate = people, rate
        self._read: dict[str, int] = {}
        self._crowds = 0
        self._crowd: Crowd | None = None

    @property
    def crowd(self) -> Crowd:
        """The people of this fault, or of the last one."""
        assert self._crowd is not None, "nobody has come yet"
        return self._crowd

    def node(self, number: int) -> int:
        """Which node it is in this turn."""
        return (number + self.turn) % len(self.mesh.nodes)

    # --- a phase ---

    async def phase(self, name: str, what: Callable[[], Awaitable[None]]) -> Stillness:
        """Has something happen while all talk, and judges what came of it. How long sends and
        deliveries stood still is reported.

        Raises:
            Broken: With what does not hold, and what the nodes said.
        """
        crowd = await self._gathered()
        self.complaints()
        crowd.start()
        since = time.monotonic()
        try:
            try:
                await asyncio.sleep(CALM_S)
                await what()
                await asyncio.sleep(CALM_S)
            finally:
                await crowd.stop()
            until = time.monotonic()
            await self._judge(crowd)
        except BaseException as error:
            # What these people saw stays wrong: the next fault is for others.
            await self.leave()
            if not isinstance(error, Broken):
                raise
            said = "\n".join([*self.complaints(), *crowd.failures])
            raise Broken(f"{name}: {error}\n{said}") from error
        still = stillness(crowd.history, since, until)
        quiet_s = time.monotonic() - until
        self._report(f"{name:32} {until - since:4.1f} + {quiet_s:4.1f} s: {still}")
        if len(crowd.history.sends) > LONG_HISTORY:
            await self.leave()
        return still

    async def _gathered(self) -> Crowd:
        if self._crowd is None:
            self._crowds += 1
            self._crowd = Crowd(
                self._admin,
                self.mesh.targets,
                people=self._people,
                rate=self._rate,
                number=self._crowds,
            )
            await self._crowd.gather()
        return self._crowd

    async def leave(self) -> None:
        """Ends all devices."""
        crowd, self._crowd = self._crowd, None
        if crowd is not None:
            await crowd.close()

    # --- what nodes say ---

    def complaints(self) -> list[str]:
        """Warnings and errors of the nodes' logs since the last call, and how often each came."""
        found: Counter[str] = Counter()
        for node in self.mesh.nodes:
            with node.log.open("rb") as log:
                log.seek(self._read.get(node.name, 0))
                lines = log.read().splitlines(keepends=True)
                if lines and not lines[-1].endswith(b"\n"):
                    lines.pop()  # it is being written
                self._read[node.name] = self._read.get(node.name, 0) + sum(map(len, lines))
            for line in lines:
                if line.startswith(b"{"):
                    said = json.loads(line)
                    if said.get("level") != "info":
                        found[f"{node.name} {_told(said)}"] += 1
        return [f"{count:3} x {line}" for line, count in found.items()]

    # --- judging ---

    async def _judge(self, crowd: Crowd) -> None:
        """Waits until all is quiet, and checks everything."""
        await _quiet(crowd)
        logs = {}
        for room in crowd.rooms:
            entries = await self._admin.read_log(room.owner, room.channel_id)
            logs[room.channel_id] = Log(room.channel_id, entries)
        check_logs(logs, crowd.history)
        await _everybody_at_the_end(crowd, logs)
        check_devices(logs, crowd.history)
        await asyncio.gather(*(_check_states(crowd, logs, user) for user in crowd.users))


async def answered(history: History) -> None:
    """Waits until every send has its outcome.

    Raises:
        Broken: One gets none.
    """
    until = time.monotonic() + QUIET_S
    while waiting := history.unanswered:
        if time.monotonic() > until:
            raise Broken(f"{len(waiting)} sends have no answer, the first is {waiting[0]}")
        await asyncio.sleep(POLL_S)


async def _quiet(crowd: Crowd) -> None:
    """Every send has its outcome, and every device lives."""
    await answered(crowd.history)
    for device in crowd.devices:
        if device.error is not None:
            raise Broken(f"{device.user_id}/{device.name} was closed: {device.error!r}")


async def _everybody_at_the_end(crowd: Crowd, logs: Mapping[str, Log]) -> None:
    """Whoever is a member has seen all, in time; `check_devices` says who has not."""
    until = time.monotonic() + QUIET_S
    behind = [
        (device, log)
        for device in crowd.devices
        for log in logs.values()
        if log.is_member(device.user_id)
    ]
    while behind and time.monotonic() < until:
        behind = [
            (device, log)
            for device, log in behind
            if device.head.get(log.channel_id, 0) < log.head or not device.is_live
        ]
        await asyncio.sleep(POLL_S)


async def _check_states(crowd: Crowd, logs: Mapping[str, Log], user_id: str) -> None:
    """What a person's devices are told of their registers, each by its node."""
    for device in crowd.of(user_id):
        until = time.monotonic() + STATES_S
        while True:
            try:
                async for view in device.client.channels():
                    _check_state(crowd, logs, user_id, view.state)
                break
            except Broken:
                # A mark may be under way.
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(POLL_S)


def _check_state(
    crowd: Crowd, logs: Mapping[str, Log], user_id: str, state: channel_pb2.ChannelState
) -> None:
    log = logs[state.channel_id]
    if log.is_member(user_id):
        marks = [d.seen.read_ids.get(log.channel_id, 0) for d in crowd.of(user_id)]
        check_state(log, user_id, max(marks), state)


def _told(said: dict[str, object]) -> str:
    text = f"{said.get('level')} {said.get('message')}"
    error = str(said.get("error") or "").splitlines()
    return text + (f" [{error[-1]}]" if error else "")


@asynccontextmanager
async def set_stage(
    report: Callable[[str], None], *, people: int, rate: float, cassandra_nodes: int = 1
) -> AsyncIterator[Stage]:
    """Starts all of it, and ends it."""
    with temporary_folder() as folder:
        mesh = Mesh(folder, settings=SETTINGS, cassandra_nodes=cassandra_nodes, small=True)
        links = Links(mesh)
        try:
            await mesh.start_engines()
            await links.start_nodes()
            await links.start_engines()
            await mesh.migrate()
            await mesh.start_nodes()
            admin = Admin(",".join(mesh.targets), await mesh.create_api_key())
            stage = Stage(mesh, links, admin, report, people=people, rate=rate)
            try:
                yield stage
            finally:
                await stage.leave()
                await admin.close()
        finally:
            # To drain all at once saves nothing, and takes the whole of the drain time.
            await asyncio.to_thread(mesh.kill_now)
            await mesh.stop()
            await links.stop()
