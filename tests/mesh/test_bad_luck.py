"""What goes wrong with the engines of real nodes, before they serve and while they do: each ends in
a message that says what to do, and in a refusal or a wait, and nothing is lost.

Engines alone: tests/mesh/redis, test_etcd_failures.py, tests/server/account, the Cassandra tests
of tests/server/chat. Certificates and forged or repeated calls between nodes:
test_links_security.py. Clocks of owners: test_clock_off.py.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from grpc import StatusCode, aio

from chinwag_server.account.postgres import schema as accounts_schema
from chinwag_server.chat.cassandra import schema as chat_schema
from chinwag_server.cli import main
from chinwag_server.cli.exits import Exit
from chinwag_server.mesh.coordination import CoordinationUnavailable
from chinwag_server.mesh.etcd import EtcdClient
from chinwag_server.mesh.membership import WrongCluster
from chinwag_server.mesh_engines import EngineRefused, until_there
from chinwag_server.node import Node
from tests.mesh.ground import (
    DATABASE,
    KEYSPACE,
    Gate,
    Ground,
    Person,
    ground,
    health,
    new_key,
    retry_s,
    said,
)
from tests.server.process import wait_until
from tests.server.serving import reason
from tools.mesh import MeshNode
from tools.mesh.node import HOST

__all__ = ["ground"]

# Engines and nodes are started again in the midst of them.
pytestmark = pytest.mark.timeout(240)

SOON_S = 60.0  # on a busy machine
END_S = 3.0
HOUR_S = 3600
LOST_REVISIONS = 3_000
AT_ONCE = 200
CLOCK_OFF = Path(__file__).parent / "clock_off"
STARTING = '{"status": "starting"}'
SERVING = '{"status": "serving"}'

ETCD, REDIS = "CHINWAG_MESH_COORDINATION_URL", "CHINWAG_MESH_REDIS_URL"
POSTGRES, CASSANDRA = "CHINWAG_STORES_ACCOUNTS_URL", "CHINWAG_STORES_CHAT_URL"
CLUSTER = "CHINWAG_STORES_CLUSTER_ID"


async def until(holds: Callable[[], bool]) -> None:
    """Waits for something."""
    await asyncio.to_thread(wait_until, holds, SOON_S)


async def refused(ground: Ground, changes: Mapping[str, str] | None = None) -> str:
    """What a node says that ends by itself, since an engine will not have it."""
    node = ground.node_here(changes)
    with pytest.raises((EngineRefused, WrongCluster)) as found:
        async with asyncio.timeout(SOON_S):
            await node.start()
    return str(found.value)


@asynccontextmanager
async def waiting(node: Node) -> AsyncIterator[asyncio.Task[None]]:
    """A node that starts; it is ended whether it serves or not."""
    starting = asyncio.create_task(node.start())
    try:
        yield starting
    finally:
        starting.cancel()
        await asyncio.wait([starting])
        await node.stop()


async def is_not_ready(node: Node) -> bool:
    """Whether it says that it starts, and does not listen where clients come."""
    answer = await asyncio.to_thread(health, node.http_port)
    with socket.socket() as probe:
        closed = probe.connect_ex((HOST, node.settings.listen.port)) != 0
    return answer == STARTING and closed


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An etcd that is away is known to be sooner than in 6 s."""
    defaults = EtcdClient.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "timeout_s", 1.0)


# --- who is not let in ---

LOGINS: dict[str, Callable[[Ground], tuple[str, str, str]]] = {
    "etcd, none": lambda ground: (ETCD, ground.etcd_url(""), "refuses a client without a user"),
    "etcd, wrong": lambda ground: (
        ETCD,
        ground.etcd_url("chinwag:wrong@"),
        "etcd refuses user 'chinwag': .*authentication failed.* Check the user, the password",
    ),
    "Redis, none": lambda ground: (
        REDIS,
        f"redis://{HOST}:{ground.redis.port}/0",
        "refuses our login .* check the URL's user and password",
    ),
    "Redis, wrong": lambda ground: (
        REDIS,
        f"redis://:wrong@{HOST}:{ground.redis.port}/0",
        "refuses our login .* check the URL's user and password",
    ),
    "PostgreSQL, none": lambda ground: (
        POSTGRES,
        f"postgresql://postgres@{HOST}:{ground.postgres.port}/{DATABASE}",
        "password authentication failed .* check the user and the password in the URL",
    ),
    "PostgreSQL, wrong": lambda ground: (
        POSTGRES,
        ground.postgres.url(DATABASE, password="wrong"),
        "password authentication failed .* check the user and the password in the URL",
    ),
    "Cassandra, none": lambda ground: (
        CASSANDRA,
        ground.cassandra.url(KEYSPACE).replace("cassandra:cassandra@", ""),
        "does not let us in, correct user and password in the URL",
    ),
    "Cassandra, wrong": lambda ground: (
        CASSANDRA,
        ground.cassandra.url(KEYSPACE).replace(":cassandra@", ":wrong@"),
        "does not let us in, correct user and password in the URL",
    ),
}


@pytest.mark.parametrize("login", LOGINS)
async def test_a_login_that_is_refused(ground: Ground, login: str) -> None:
    name, url, text = LOGINS[login](ground)
    told = await refused(ground, {name: url})
    assert re.search(text, told), told
    assert "wrong@" not in told


def test_how_a_refused_node_ends(ground: Ground) -> None:
    """By itself and soon, with the code for a refusal."""
    name, url, text = LOGINS["etcd, wrong"](ground)
    node = ground.node({name: url})
    node.spawn()
    try:
        assert node.wait(SOON_S) == Exit.REFUSED, node.tail()
    finally:
        node.kill()
    last = said(node).splitlines()[-1]
    assert last.startswith("chinwag serve: ")
    assert re.search(text, last)
    # The text is all that there is to read, and it holds no secret.
    assert "Traceback" not in said(node)
    assert "wrong@" not in said(node)


# --- what is away ---


@pytest.mark.usefixtures("soon")
async def test_engines_that_come_one_after_the_other(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    found = {
        "etcd": (ETCD, ground.etcd_url(), int(ground.etcd.endpoint.rpartition(":")[2])),
        "Redis": (REDIS, ground.redis.url, ground.redis.port),
        "Cassandra": (CASSANDRA, ground.cassandra.url(KEYSPACE), ground.cassandra.port),
        "PostgreSQL": (POSTGRES, ground.postgres.url(DATABASE), ground.postgres.port),
    }
    gates = {name: Gate(port) for name, (_, _, port) in found.items()}
    node = ground.node_here(
        {
            key: url.replace(f":{port}", f":{gates[name].port}")
            for name, (key, url, port) in found.items()
        }
    )
    async with waiting(node) as starting:
        for name, gate in gates.items():
            text = f"{name} is not there, waiting for it: "
            await until(partial(lambda text: text in caplog.text, text))
            assert await is_not_ready(node)
            await gate.open()
        await starting
        assert await asyncio.to_thread(health, node.http_port) == SERVING
    # Cassandra's driver would tell of each try with a trace.
    told = [record for record in caplog.records if record.name.startswith("cassandra")]
    assert [record.getMessage() for record in told if record.exc_info] == []
    for gate in gates.values():
        await gate.close()


async def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def work() -> str:
        if len(pauses) < 8:
            raise CoordinationUnavailable("it is away")
        return "there"

    monkeypatch.setattr(asyncio, "sleep", pause)
    assert await until_there("an engine", work) == "there"
    monkeypatch.undo()
    for seconds, most_s in zip(pauses, (0.5, 1, 2, 4, 8, 10, 10, 10), strict=True):
        assert most_s / 2 <= seconds <= most_s


@pytest.mark.parametrize("engine", ["dead", "frozen"])
def test_a_node_that_waits_ends_at_once(ground: Ground, engine: str) -> None:
    """Also if a driver hangs in the middle of something."""
    cassandra = ground.cassandra.nodes[0]
    node = ground.node()
    if engine == "frozen":
        cassandra.freeze()
    else:
        # A port at which nobody is.
        url = ground.cassandra.url(KEYSPACE)
        node.settings[CASSANDRA] = url.replace(f":{ground.cassandra.port}", f":{node.mesh_port}")
    try:
        node.spawn()
        if engine == "dead":
            wait_until(lambda: "Cassandra is not there" in said(node), SOON_S)
        else:
            wait_until(lambda: health(node.http_port) == STARTING, SOON_S)
            time.sleep(1.0)  # in which it comes to Cassandra
        began = time.monotonic()
        node.stop()
        assert time.monotonic() - began < END_S
        assert node.wait(0) == Exit.OK
    finally:
        cassandra.thaw()
        node.kill()


# --- what is not for this program ---


async def test_a_keyspace_that_is_not_migrated(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits: a Job may be about to do it."""
    node = ground.node_here({CASSANDRA: ground.cassandra.url("unmade")})
    async with waiting(node):
        await until(lambda: "the keyspace is not made yet: run `chinwag migrate`" in caplog.text)
        assert await is_not_ready(node)


async def test_a_keyspace_of_a_newer_program(ground: Ground) -> None:
    facts = f"{KEYSPACE}.{chat_schema.MIGRATIONS}"
    newer = chat_schema.VERSION + 1
    driver = ground.cassandra.connect(ground.cassandra.nodes[0])
    session = driver.connect()
    key = f"store = '{chat_schema.STORE}' AND version = {newer}"
    try:
        session.execute(
            f"INSERT INTO {facts} (store, version, time_us) VALUES ('{chat_schema.STORE}', "
            f"{newer}, 1)"
        )
        text = f"the keyspace is of version {newer}, this program knows {newer - 1}: upgrade"
        assert text in await refused(ground)
    finally:
        session.execute(f"DELETE FROM {facts} WHERE {key}")
        driver.shutdown()


async def test_a_database_of_a_newer_program(ground: Ground) -> None:
    newer = accounts_schema.SCHEMA_VERSION + 1
    connection = await asyncpg.connect(ground.postgres.url(DATABASE), timeout=5.0)
    try:
        await connection.execute(f"UPDATE chinwag SET schema_version = {newer}")
        text = await refused(ground)
        assert f"has schema {newer}, this program knows up to {newer - 1}" in text
    finally:
        await connection.execute(f"UPDATE chinwag SET schema_version = {newer - 1}")
        await connection.close()


# --- two clusters by mistake ---


async def test_a_keyspace_of_another_cluster(ground: Ground) -> None:
    text = await refused(ground, {CLUSTER: "theirs"})
    assert "the keyspace belongs to cluster ours, this is cluster theirs" in text


async def test_a_database_of_another_cluster(ground: Ground) -> None:
    connection = await asyncpg.connect(ground.postgres.url(DATABASE), timeout=5.0)
    try:
        await connection.execute("UPDATE chinwag SET cluster_id = 'theirs'")
        assert "belongs to cluster 'theirs', this node to 'ours'" in await refused(ground)
    finally:
        await connection.execute("UPDATE chinwag SET cluster_id = 'ours'")
        await connection.close()


async def test_an_etcd_of_another_cluster(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coordination = ground.coordination()
    await coordination.put("/chinwag/cluster", b"theirs")
    try:
        text = await refused(ground)
        assert "/chinwag/cluster in etcd says 'theirs', this node is configured for the" in text
        for name, value in ground.settings().items():
            monkeypatch.setenv(name, value)
        assert await asyncio.to_thread(main, ["raise-epochs"]) == Exit.REFUSED
        assert "'theirs'" in capsys.readouterr().err
    finally:
        await coordination.put("/chinwag/cluster", b"ours")
        await coordination.close()


# --- the command ---


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({ETCD: "", REDIS: "", CASSANDRA: ""}, Exit.USAGE, "only nodes of a mesh have epochs"),
        ({ETCD: f"etcd://{HOST}:1"}, Exit.UNREACHABLE, "etcd did not answer .* run again"),
        ({ETCD: "etcd://chinwag:wrong@{etcd}"}, Exit.REFUSED, "authentication failed"),
        ({CASSANDRA: f"cassandra://{HOST}:1/chinwag"}, Exit.UNREACHABLE, "cannot be opened"),
        ({CASSANDRA: "http://there/"}, Exit.USAGE, "stores.chat_url: "),
    ],
)
@pytest.mark.usefixtures("soon")
def test_epochs_that_cannot_be_raised(
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    code: Exit,
    text: str,
) -> None:
    for name, value in {**ground.settings(), **changes}.items():
        monkeypatch.setenv(name, value.format(etcd=ground.etcd.endpoint))
    assert main(["raise-epochs"]) == code
    assert re.search(text, capsys.readouterr().err)


# --- nodes that run ---


@dataclass(slots=True, frozen=True)
class Pair:
    """Two nodes that serve, at the begin; whoever needs them later starts them again."""

    right: MeshNode
    ahead: MeshNode  # its clock is, an hour


def an_hour_off(sign: str) -> dict[str, str]:
    """What gives a Python program another wall clock."""
    return {"PYTHONPATH": str(CLOCK_OFF), "CLOCK_OFF_S": f"{sign}{HOUR_S}"}


@pytest.fixture(scope="module")
def pair(ground: Ground) -> Iterator[Pair]:
    made = Pair(ground.node(), ground.node(an_hour_off("+")))
    yield made
    made.right.kill()
    made.ahead.kill()


async def serve(*nodes: MeshNode) -> None:
    """Starts those that do not run, and waits until they serve."""
    for node in nodes:
        if not node.running:
            node.spawn()
    for node in nodes:
        await asyncio.to_thread(node.wait_ready)


async def heard(stream: Any, wanted: set[tuple[str, int]]) -> None:
    """Reads a device's stream until it has these messages, each of them once."""
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(SOON_S):
        while not wanted <= set(found):
            entries = [event.entry for event in (await stream.read()).events]
            found += [
                (entry.channel_id, entry.id) for entry in entries if entry.HasField("message_sent")
            ]
    assert len(found) == len(set(found))


def is_passing(error: aio.AioRpcError) -> bool:
    """Whether it is the refusal of a store that is away, with a time to try again."""
    return (
        error.code() is StatusCode.UNAVAILABLE
        and reason(error) == "STORAGE_UNAVAILABLE"
        and retry_s(error) > 0
    )


# --- what is full ---


async def test_a_redis_at_its_maxmemory(ground: Ground, pair: Pair) -> None:
    await serve(pair.right, pair.ahead)
    ann, bob = await Person(pair.right).sign_up(), await Person(pair.ahead).sign_up()
    groups = [await ann.create_group(bob) for _ in range(8)]  # owned by either
    stream = await bob.listen()
    with ground.redis.client() as redis:
        redis.config_set("maxmemory", "1mb")
        assert redis.info("memory")["used_memory"] > 1 << 20
        try:
            sent = []
            for number in range(3):
                for group in groups:
                    message = await ann.deliver(group, f"{number}")
                    sent.append((group, message.id))
            await heard(stream, set(sent))
            # Somebody who comes while it is full.
            cid = await Person(pair.ahead).sign_up()
            other = await cid.create_group(ann)
            await cid.deliver(other, "hello")
            stream = await ann.listen()
            await heard(stream, {(other, (await cid.deliver(other, "again")).id)})
        finally:
            redis.config_set("maxmemory", "0")
    assert "is full: raise its maxmemory" in said(pair.right) + said(pair.ahead)


# --- clocks ---


@pytest.mark.parametrize("sign", ["+", pytest.param("-", marks=pytest.mark.soak)])
async def test_a_clock_that_is_an_hour_off(ground: Ground, pair: Pair, sign: str) -> None:
    right = pair.right
    wrong = pair.ahead if sign == "+" else ground.node(an_hour_off(sign))
    await serve(right, wrong)
    try:
        await _check_clock(right, wrong, sign)
    finally:
        wrong.kill()


async def _check_clock(right: MeshNode, wrong: MeshNode, sign: str) -> None:
    off_s = HOUR_S if sign == "+" else -HOUR_S
    ann, bob = await Person(right).sign_up(), await Person(wrong).sign_up()

    # Tokens: whoever takes one judges its end by the own clock. It lives for 15 minutes, so one of
    # the earlier clock has ended at the later one, and the other way round it lives an hour longer.
    early, late = (ann, wrong) if sign == "+" else (bob, right)
    there = early.at(late)
    with pytest.raises(aio.AioRpcError) as found:
        await there.create_group()
    assert found.value.code() is StatusCode.UNAUTHENTICATED
    assert reason(found.value) == "TOKEN_EXPIRED"
    # Refreshed, as an SDK does by itself, it is good at both.
    await there.refresh()
    early.token = there.token
    groups = [await early.create_group(ann, bob) for _ in range(8)]  # owned by either

    stream = await ann.listen()
    sent = []
    for number in range(4):
        for group in groups:
            sender = (ann, bob)[number % 2]
            sent.append(await sender.deliver(group, f"{number}"))
    assert any(abs(seconds(message) - time.time() - off_s) < 60 for message in sent)
    assert any(abs(seconds(message) - time.time()) < 60 for message in sent)
    await heard(stream, {(message.channel_id, message.id) for message in sent})
    text = f"s {'ahead of' if sign == '+' else 'behind'} that of Redis: correct whichever is wrong"
    await until(lambda: text in said(wrong))
    assert "this machine's clock" not in said(right)

    # That node dies: channels go on where they were, and their time never falls.
    await asyncio.to_thread(wrong.kill)
    more = [await ann.deliver(group, "more") for group in groups]
    for group, last in zip(groups, more, strict=True):
        found_there = await ann.messages(group)
        assert [message.id for message in found_there] == [2, 3, 4, 5, 6]
        assert found_there[-1].id == last.id
        times = [message.create_time.ToNanoseconds() for message in found_there]
        assert times == sorted(times)
    await heard(stream, {(message.channel_id, message.id) for message in more})


def seconds(message: Any) -> float:
    """When it was stored, since 1970."""
    return float(message.create_time.ToNanoseconds() / 1e9)


# --- etcd goes back ---


async def test_an_etcd_that_was_restored(ground: Ground, pair: Pair) -> None:
    etcd, node = ground.etcd, pair.right
    data = ground.folder / "etcd" / "data"
    backup = ground.folder / "etcd-backup"
    pair.ahead.kill()
    await serve(node)
    etcd.stop()
    shutil.copytree(data, backup)
    etcd.start()

    # Much happens after the backup: a few revisions nodes would make up for by their claims.
    coordination = ground.coordination()
    for _ in range(LOST_REVISIONS // AT_ONCE):
        await asyncio.gather(*(coordination.put("/chinwag/test", b"") for _ in range(AT_ONCE)))
    await coordination.close()
    # All shards are claimed again, at higher revisions.
    await asyncio.to_thread(node.stop)
    await serve(node)
    ann = await Person(node).sign_up()
    group = await ann.create_group()
    assert (await ann.deliver(group, "one")).id == 2

    # Sooner than docs/deploy.md has it: the node counts as an owner yet, and has to find out.
    etcd.kill()
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    etcd.start()

    key = new_key()
    await until(lambda: "is refused, the shard is not served" in said(node))
    assert "etcd was restored from an older backup, or is another one. `chinwag raise-epochs`" in (
        said(node)
    )
    assert "the coordination was restored or replaced: it was at revision" in said(node)
    # Neither writes nor reads, of which nobody can say how far they go.
    calls = ann.send(group, "two", key=key), ann.messages(group)
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, aio.AioRpcError)
        assert is_passing(error)

    done = await asyncio.to_thread(ground.chinwag, "raise-epochs")
    assert done.returncode == Exit.OK, done.stderr
    numbers = re.search(r"go up to (\d+), etcd is at revision (\d+): (\d+) is added", done.stdout)
    assert numbers is not None, done.stdout
    stored, revision, base = map(int, numbers.groups())
    assert base + revision >= stored
    # Without a restart.
    assert (await ann.deliver(group, "two", key)).id == 3
    assert [message.content.text for message in await ann.messages(group)] == ["one", "two"]


# --- a disk is full ---


async def test_a_full_disk_of_cassandra(
    ground: Ground, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Its commit log has no room. Cassandra ends then, by its own policy or in the middle of a
    write, and is to be started again when there is room."""
    caplog.set_level(logging.ERROR, "cassandra")
    node = pair.right
    await serve(node)
    ann = await Person(node).sign_up()
    group, other = await ann.create_group(), await ann.create_group()
    await ann.deliver(group, "before")
    await asyncio.to_thread(ground.disk.fill)
    texts = {new_key(): f"{number} {'x' * 20_000}" for number in range(20)}
    sends = [ann.send(group, text, key=key, timeout_s=60.0) for key, text in texts.items()]
    sending = [asyncio.ensure_future(send) for send in sends]
    await until(lambda: not ground.cassandra.nodes[0].running)
    # What comes now is refused, at once and with a time to try again.
    key = new_key()
    with pytest.raises(aio.AioRpcError) as found:
        await ann.send(other, "refused", key=key)
    assert is_passing(found.value)
    # What is under way can neither be acked nor be taken back: it waits.
    await until(lambda: "a write will be repeated: Cassandra: " in said(node))
    assert not all(send.done() for send in sending)

    ground.disk.make_room()
    await asyncio.to_thread(ground.cassandra.start)
    outcomes = await asyncio.gather(*sending, return_exceptions=True)
    ids = [(await ann.deliver(group, text, key)).id for key, text in texts.items()]
    for outcome, again in zip(outcomes, ids, strict=True):
        if isinstance(outcome, aio.AioRpcError):
            assert outcome.code() in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
        else:
            assert not isinstance(outcome, BaseException), outcome
            assert outcome.id == again  # acked, so the repeat is not another message
    stored = await ann.messages(group)
    assert [message.id for message in stored] == [2, *sorted(ids)] == list(range(2, 23))
    assert sorted(message.content.text for message in stored) == sorted([*texts.values(), "before"])
    await ann.deliver(other, "refused", key)
    assert [message.content.text for message in await ann.messages(other)] == ["refused"]
