"""What the tests of bad luck stand on: engines that want passwords, nodes, and people at them."""

from __future__ import annotations

import asyncio
import http.client
import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc import aio

from chinwag.account.v1 import account_service_pb2 as account_pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.chat.v1 import channel_pb2, chat_service_pb2_grpc, connect_pb2
from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag_server.config import load
from chinwag_server.mesh.etcd import EtcdClient, EtcdCoordination
from chinwag_server.node import Node
from tests.mesh.small_disk import SmallDisk
from tests.server.serving import bearer, detail, reason, status_of
from tools.engines.cassandra import Cassandra
from tools.engines.etcd import Etcd
from tools.engines.postgres import Postgres
from tools.engines.process import free_port
from tools.engines.redis import Redis
from tools.mesh import MeshNode, temporary_folder
from tools.mesh.node import HOST

CLUSTER = "ours"
DATABASE = KEYSPACE = "chinwag"
PASSWORD = "a long password"
COMMIT_LOG_MIB = 96
# On a busy machine.
PATIENCE_S = 30.0
# Small pieces, as its disk is.
CASSANDRA_LINES = "commitlog_directory: {disk}/log\ncommitlog_segment_size: 8MiB\n"


class Ground:
    """etcd, Redis, PostgreSQL and Cassandra, with users; Cassandra's commit log is on a disk that
    can be filled.

    Args:
        folder: Whose parents are open to all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._etcd_password = secrets.token_hex(8)
        self.etcd = Etcd(folder / "etcd")
        self.redis = Redis(folder / "redis", password=secrets.token_hex(16))
        self.postgres = Postgres(folder / "postgres", password=secrets.token_hex(16))
        self.cassandra = Cassandra(folder / "cassandra", passwords=True, heap_mib=256)
        self.disk = SmallDisk(folder / "disk", COMMIT_LOG_MIB)
        node = self.cassandra.nodes[0]
        node.command = self.disk.command(node.command)
        config = folder / "cassandra" / node.address / "cassandra.yaml"
        config.write_text(config.read_text() + CASSANDRA_LINES.format(disk=self.disk.path))
        self._made = 0

    def start(self) -> None:
        """Starts all, and makes what nodes need."""
        starts = (self._start_etcd, self.redis.start, self._start_postgres, self.cassandra.start)
        with ThreadPoolExecutor(len(starts)) as pool:
            for done in [pool.submit(start) for start in starts]:
                done.result()
        migrated = self.chinwag("migrate")
        assert migrated.returncode == 0, migrated.stderr

    def stop(self) -> None:
        """Ends all."""
        for stop in (self.etcd.kill, self.redis.kill, self.postgres.kill, self.cassandra.stop):
            stop()
        self.disk.unmount()

    def _start_etcd(self) -> None:
        self.etcd.start()
        self.etcd.require_users(
            secrets.token_hex(8), {"chinwag": (self._etcd_password, "/chinwag/")}
        )

    def _start_postgres(self) -> None:
        self.postgres.start()
        self.postgres.create_database(DATABASE)

    # --- what stands on them ---

    def etcd_url(self, login: str | None = None, etcd: Etcd | None = None) -> str:
        """With the right login, or another one."""
        login = f"chinwag:{self._etcd_password}@" if login is None else login
        return f"etcd://{login}{(etcd or self.etcd).endpoint}"

    def settings(self) -> dict[str, str]:
        """CHINWAG_... variables of a node and of commands."""
        return {
            "CHINWAG_MESH_COORDINATION_URL": self.etcd_url(),
            "CHINWAG_MESH_REDIS_URL": self.redis.url,
            "CHINWAG_STORES_ACCOUNTS_URL": self.postgres.url(DATABASE),
            "CHINWAG_STORES_CHAT_URL": self.cassandra.url(KEYSPACE),
            "CHINWAG_STORES_CLUSTER_ID": CLUSTER,
            "CHINWAG_MESH_LEASE_S": "5",
            "CHINWAG_ACCOUNT_ARGON2_MEMORY_KIB": "64",
            "CHINWAG_ACCOUNT_ARGON2_PASSES": "1",
        }

    def coordination(self) -> EtcdCoordination:
        """The caller's to close."""
        return EtcdCoordination(
            EtcdClient([self.etcd.endpoint], user="chinwag", password=self._etcd_password)
        )

    def node(self, changes: Mapping[str, str] | None = None) -> MeshNode:
        """A node as a process, not started."""
        name = self._name()
        node = MeshNode(name, self.folder / name, environment())
        node.settings |= {**self.settings(), **(changes or {})}
        return node

    def node_here(self, changes: Mapping[str, str] | None = None) -> Node:
        """A node in the test's own loop, not started."""
        ports = ("CHINWAG_LISTEN_PORT", "CHINWAG_HTTP_PORT", "CHINWAG_MESH_PORT")
        settings = {
            "CHINWAG_DATA_DIR": str(self.folder / self._name()),
            **{name: str(free_port(HOST)) for name in ports},
        }
        return Node(load(None, {**settings, **self.settings(), **(changes or {})}).settings)

    def _name(self) -> str:
        self._made += 1
        return f"n{self._made}"

    def chinwag(
        self, *arguments: str, changes: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command with a node's settings."""
        return subprocess.run(
            [sys.executable, "-m", "chinwag_server.cli", *arguments],
            env={**environment(), **self.settings(), **(changes or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60.0,
        )


class Gate:
    """A port of this machine at which nobody is until it is opened: then it leads to another."""

    def __init__(self, port: int) -> None:
        self.port = free_port(HOST)
        self._to = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Lets in who comes from now on."""
        self._server = await asyncio.start_server(self._connected, HOST, self.port)

    async def close(self) -> None:
        """Ends it, with all that goes through."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(HOST, self._to)
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(_pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    except OSError:
        return
    finally:
        target.close()


def environment() -> dict[str, str]:
    """This process's, without settings of chinwag."""
    return {name: text for name, text in os.environ.items() if not name.startswith("CHINWAG_")}


def health(port: int) -> str:
    """What a node answers at this HTTP port about itself; "": nothing. It blocks."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def said(node: MeshNode) -> str:
    """All of its log."""
    return node.log.read_text() if node.log.exists() else ""


def new_key() -> str:
    """A client_message_id: a UUID of version 7."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62
    return str(uuid.UUID(int=value))


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with temporary_folder() as folder:
        made = Ground(folder)
        try:
            made.start()
            yield made
        finally:
            made.stop()


async def repeated(call: Callable[[], Awaitable[Any]]) -> Any:
    """Makes a call that may be repeated until it succeeds. What it is refused with says that it may
    be, and when."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await call()
        except aio.AioRpcError as error:
            passing = reason(error) in ("STORAGE_UNAVAILABLE", "OVERLOADED")
            if not passing or not retry_s(error) or time.monotonic() > until_s:
                raise
        await asyncio.sleep(0.2)


def retry_s(error: Any) -> float:
    """When to try again, as an error says; 0: it does not."""
    info = detail(status_of(error), error_details_pb2.RetryInfo)
    return float(info.retry_delay.ToNanoseconds() / 1e9)


class Person:
    """Somebody at a node, over a connection of their own."""

    def __init__(self, node: MeshNode) -> None:
        self.channel = aio.insecure_channel(
            node.target, options=(("grpc.use_local_subchannel_pool", 1),)
        )
        self.account: Any = account_service_pb2_grpc.AccountServiceStub(self.channel)
        self.chat: Any = chat_service_pb2_grpc.ChatServiceStub(self.channel)
        self.user_id = self.device_id = self.token = self.refresh_token = ""

    async def sign_up(self) -> Person:
        answer = await self.account.SignUp(
            account_pb.SignUpRequest(username=f"p{secrets.token_hex(6)}", password=PASSWORD)
        )
        self.user_id = answer.user.id
        tokens = answer.tokens
        self.device_id = tokens.device_id
        self.token, self.refresh_token = tokens.access_token, tokens.refresh_token
        return self

    def at(self, node: MeshNode) -> Person:
        """The same at another node."""
        other = Person(node)
        other.user_id, other.device_id = self.user_id, self.device_id
        other.token, other.refresh_token = self.token, self.refresh_token
        return other

    async def refresh(self) -> None:
        """Gets new tokens for the old."""
        request = account_pb.RefreshTokenRequest(
            refresh_token=self.refresh_token,
            device_id=self.device_id,
            request_id=secrets.token_hex(8),
        )
        tokens = (await self.account.RefreshToken(request)).tokens
        self.token, self.refresh_token = tokens.access_token, tokens.refresh_token

    async def create_group(self, *others: Person) -> str:
        """The id of a new group."""
        request = pb.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_GROUP,
            member_user_ids=[one.user_id for one in others if one.user_id != self.user_id],
            request_id=secrets.token_hex(8),
        )
        answer = await repeated(
            lambda: self.chat.CreateChannel(request, metadata=bearer(self.token))
        )
        return str(answer.channel.channel.id)

    async def send(
        self, channel_id: str, text: str, *, key: str = "", timeout_s: float = 15.0
    ) -> Any:
        """The message as it is stored."""
        request = connect_pb2.SendMessageRequest(
            channel_id=channel_id, client_message_id=key or new_key()
        )
        request.content.text = text
        answer = await self.chat.SendMessage(
            request, metadata=bearer(self.token), timeout=timeout_s
        )
        return answer.message

    async def deliver(self, channel_id: str, text: str, key: str = "") -> Any:
        """As `send`, again and again under one key, as an SDK does."""
        key = key or new_key()
        return await repeated(lambda: self.send(channel_id, text, key=key))

    async def messages(self, channel_id: str) -> list[Any]:
        """The newest 200, in their order."""
        request = pb.ListMessagesRequest(channel_id=channel_id, page_size=200)
        answer = await self.chat.ListMessages(request, metadata=bearer(self.token))
        return list(answer.messages)

    async def listen(self) -> Any:
        """A stream that is caught up."""
        stream = self.chat.Connect(metadata=bearer(self.token))
        await stream.write(connect_pb2.ConnectRequest(hello=connect_pb2.Hello(protocol_version=1)))
        while not (await stream.read()).HasField("caught_up"):
            pass
        return stream

    async def close(self) -> None:
        await self.channel.close(None)
