"""Devices that never read, beside honest ones: all through the same Envoy, the real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import pytest

import bench.envoy
from bench.process import Server
from chinwag_server.cli.replay.admin import Admin
from tests.wire.hostile import peer as h2
from tests.wire.hostile.attacks import hello
from tests.wire.hostile.peer import Peer
from tests.wire.hostile.stage import (
    ISSUED_AT_ONCE,
    LOUD_MEMBERS,
    Stage,
    more_descriptors,
    start_server,
)

FEW, MANY = 100, 1_000
CONNECTIONS = 4
# Envoy is to be full soon, so that the streams stall at the server: the least that it takes for a
# stream; for the connection, more than all stalled streams together hold.
STREAM_WINDOW = 65_536
CONNECTION_WINDOW = 512 << 20
# The connection is everybody's, and busy while a thousand devices are caught up: honest streams may
# wait for it longer than those of the other tests may wait for anything.
STALL_MS = 5000
# That a core is busy with opening devices is not what is looked at here: a third of it is.
OPENED_PER_S = 500
# What the streams may take to be opened and filled, beside the time that a stall may last.
OPEN_S = 10.0
# What is owed to each: small messages, so that a server can do with little for each stream.
OWED = 500, 2_000
# Envoy is installed by the first test that needs it.
INSTALL_S = 120.0

pytestmark = pytest.mark.timeout(INSTALL_S + 120)


@pytest.fixture(scope="module")
def behind_envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everybody connects to Envoy, whose connection to the server is one."""
    folder = tmp_path_factory.mktemp("envoy")
    with more_descriptors(), pytest.MonkeyPatch.context() as patched:
        patched.setitem(bench.envoy.HTTP2, "initial_stream_window_size", STREAM_WINDOW)
        patched.setitem(bench.envoy.HTTP2, "initial_connection_window_size", CONNECTION_WINDOW)
        flags = ("--listen-trusted-proxies", "127.0.0.1", "--listen-stall-ms", str(STALL_MS))
        server, people = start_server(folder, *flags, loud=OWED)
        try:
            node = Server(server.pid, server.target, time.perf_counter(), server.log)
            with bench.envoy.envoy(folder, node) as proxy:
                stage = Stage(server, people, int(proxy.address.rpartition(":")[2]))
                try:
                    yield stage
                finally:
                    stage.close()
        finally:
            server.kill()


async def more_devices(stage: Stage, count: int) -> Sequence[str]:
    """Tokens of new devices of those in the loud group."""
    admin = Admin(stage.server.target, stage.people.key)
    room = asyncio.Semaphore(ISSUED_AT_ONCE)

    async def issue(number: int) -> str:
        async with room:
            user_id = f"loud{number % LOUD_MEMBERS:03}"
            return (await admin.issue_token(user_id, f"device{number}")).access_token

    try:
        return await asyncio.gather(*map(issue, range(count)))
    finally:
        await admin.close()


async def never_read(stage: Stage, count: int) -> None:
    """A megabyte is owed to each of so many devices, and none takes any: all are ended in time,
    and nobody notices."""
    tokens = await more_devices(stage, count)
    group = stage.people.loud_group
    closed = h2.PREFACE + h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
    async with stage.watched():
        peers = [await Peer.open(stage.port, first=closed) for _ in range(CONNECTIONS)]
        began = time.monotonic()
        for number, token in enumerate(tokens):
            stream_id = 2 * (number // CONNECTIONS) + 1
            peers[number % CONNECTIONS].write(hello(token, group, stream_id, cursor=0))
            if number % 10 == 0:
                await asyncio.sleep(10 / OPENED_PER_S)
        each = count // CONNECTIONS
        for peer in peers:
            left = began + OPEN_S + STALL_MS / 1000 - time.monotonic()
            await peer.until(lambda peer=peer: len(peer.resets) == each, left)  # type: ignore[misc]
        took_s = time.monotonic() - began
        print(f"\n    {count} streams were ended after {took_s:.1f} s", end="")
        ended = [len(peer.resets) for peer in peers]
        assert ended == [each] * CONNECTIONS
        assert all(not peer.bytes_of for peer in peers), "something came without a window"
        for peer in peers:
            assert peer.ending == "open", peer.ending
            peer.close()


async def test_a_hundred_that_never_read(behind_envoy: Stage) -> None:
    await never_read(behind_envoy, FEW)


@pytest.mark.soak
async def test_a_thousand_that_never_read(behind_envoy: Stage) -> None:
    await never_read(behind_envoy, MANY)
