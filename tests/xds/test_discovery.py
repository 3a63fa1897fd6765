"""Where the nodes are, from real etcd through the control plane to gRPC clients and Envoy."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from chinwag_server.clock import SystemClock
from chinwag_server.envoy.front import Address, Front, Limits, Listen, Nodes
from chinwag_server.envoy.process import EnvoyProcess, find_envoy
from chinwag_server.envoy.render import bootstrap as envoy_config
from chinwag_server.mesh.etcd import EtcdCoordination
from chinwag_server.mesh.etcd.client import EtcdClient
from chinwag_server.mesh.membership import Membership, NodeRecord, NodeState
from tests.xds.stage import PROXYLESS, bootstrap, xds
from tools.engines.etcd import Etcd
from tools.engines.process import free_port

WAIT_S = 20.0
# Of every method, for what gRPC's health asks too: it answers "serving".
HEALTHY = b"\x08\x01"
# What a mesh's settings need besides etcd; none of it is used here.
MESH = (
    *("--mesh-redis-url", "redis://127.0.0.1:1", "--stores-chat-url", "cassandra://127.0.0.1:1"),
    *("--stores-accounts-url", "postgresql://127.0.0.1:1/x", "--stores-cluster-id", "xds"),
)


class FakeNode:
    """A gRPC server that has registered as a node, and answers with its name."""

    def __init__(self, name: str, etcd: str) -> None:
        self.name = name
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Answers(name),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._coordination = EtcdCoordination(EtcdClient([etcd]))
        node = NodeRecord(
            secrets.token_hex(4),
            "127.0.0.1:1",
            state=NodeState.SERVING,
            client_address=f"127.0.0.1:{self.port}",
        )
        self.membership = Membership(
            self._coordination, SystemClock(), node, cluster_id="xds", ttl_s=3, margin_s=1.0
        )

    async def start(self) -> None:
        await self._server.start()
        await self.membership.start()

    async def drain(self) -> None:
        await self.membership.set_state(NodeState.DRAINING)

    async def stop(self) -> None:
        await self.membership.stop()
        await self._coordination.close()
        await self._server.stop(0)


class _Answers(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self._name = name

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        healthy = details.method.startswith("/grpc.health")
        answer = HEALTHY if healthy else self._name.encode()

        async def answered(_request: bytes, _context: object) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(answered)


@asynccontextmanager
async def nodes(etcd: str, *names: str) -> AsyncIterator[list[FakeNode]]:
    found = [FakeNode(name, etcd) for name in names]
    for node in found:
        await node.start()
    yield found
    for node in found:
        await node.stop()


async def until(what: str, holds: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Waits for a condition."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, f"it does not come: {what}"
        await asyncio.sleep(0.02)


class Proxyless:
    """A client in a process of its own: `answers` is what it hears."""

    def __init__(self, target: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROXYLESS],
            stdout=subprocess.PIPE,
            env={**os.environ, **bootstrap(target)},
        )
        self.answers: list[str] = []
        self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.answers.append(line.decode().strip())

    def lately(self, count: int = 12) -> set[str]:
        """Who answered the last calls; of fewer nobody."""
        return set(self.answers[-count:]) if len(self.answers) >= count else set()

    async def stop(self) -> None:
        self._process.kill()
        await self._reading
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    yield etcd
    etcd.stop()


async def test_clients_without_a_proxy(tmp_path: Path, etcd: Etcd) -> None:
    flags = ("--mesh-coordination-url", f"etcd://{etcd.endpoint}", *MESH)
    with xds(tmp_path / "xds", *flags) as target:
        async with nodes(etcd.endpoint, "a", "b") as (first, second):
            client = Proxyless(target)
            try:
                await until("both answer", lambda: client.lately() == {"a", "b"})
                # One that drains gets nothing new, and nobody notices.
                client.answers.clear()
                await first.drain()
                await until("one is left", lambda: client.lately() == {"b"})
                assert set(client.answers) <= {"a", "b"}
                # A new one takes traffic within a second.
                third = FakeNode("c", etcd.endpoint)
                await third.start()
                client.answers.clear()
                await until("the new one answers", lambda: "c" in client.answers, 3.0)
                # Without etcd what is known holds.
                etcd.kill()
                client.answers.clear()
                await until("they answer on", lambda: client.lately(40) == {"b", "c"})
                etcd.start()
                await third.stop()
                await until("it has gone", lambda: client.lately() == {"b"})
                assert second.membership.node.state is NodeState.SERVING
            finally:
                await client.stop()


async def test_envoy(tmp_path: Path, etcd: Etcd) -> None:
    binary = find_envoy()
    assert binary is not None
    port = free_port()
    flags = ("--mesh-coordination-url", f"etcd://{etcd.endpoint}", *MESH)
    with xds(tmp_path / "xds", *flags) as target:
        front = Front(
            listen=(Listen(Address("127.0.0.1", port)),),
            nodes=Nodes(xds=Address.parse(target)),
            jwks=Address("127.0.0.1", free_port()),
            admin=tmp_path / "admin.sock",
            access_log="",
        )
        front = dataclasses.replace(front, limits=Limits(requests_per_second=0))
        config = tmp_path / "envoy.json"
        config.write_text(json.dumps(envoy_config(front)), encoding="utf-8")
        envoy = EnvoyProcess(binary, config, front.admin, tmp_path / "envoy.log")
        async with nodes(etcd.endpoint, "a", "b") as (first, _second):
            await envoy.start()
            answers: list[str] = []
            calling = asyncio.ensure_future(_call(f"127.0.0.1:{port}", answers))
            try:
                await until("both answer", lambda: set(answers[-12:]) == {"a", "b"})
                await first.drain()
                await until("one is left", lambda: set(answers[-12:]) == {"b"})
                assert set(answers) <= {"a", "b", "UNAVAILABLE"}
            finally:
                calling.cancel()
                await envoy.stop()


async def _call(target: str, answers: list[str]) -> None:
    """Calls what needs no token, again and again."""
    async with grpc.aio.insecure_channel(target) as channel:
        call: Any = channel.unary_unary("/chinwag.account.v1.AccountService/LogIn")
        while True:
            try:
                answers.append((await call(b"", timeout=5)).decode())
            except grpc.aio.AioRpcError as error:
                answers.append(error.code().name)
            await asyncio.sleep(0.03)
