"""What is served, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from chinwag_server.mesh.membership import NodeRecord, NodeState
from chinwag_server.xds.pb import xds_pb2 as pb
from chinwag_server.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    NAME,
    ROUTE,
    ROUTES,
    Endpoint,
    assignment,
)
from chinwag_server.xds.sources import endpoints_of
from chinwag_server.xds.streams import SERVICE, Discovery

A, B = Endpoint("10.0.0.1", 7400, "east"), Endpoint("10.0.0.2", 7400, "west", capacity=2.0)


def test_endpoints_by_zone_with_their_weights() -> None:
    found = assignment([B, A])
    assert [zone.locality.zone for zone in found.endpoints] == ["east", "west"]
    assert [zone.load_balancing_weight.value for zone in found.endpoints] == [100, 200]
    (endpoint,) = found.endpoints[0].lb_endpoints
    assert endpoint.endpoint.address.socket_address.address == "10.0.0.1"
    assert endpoint.health_status == 1


def test_nodes_as_clients_reach_them() -> None:
    nodes = {
        "a": NodeRecord(
            "a", "x:1", "east", state=NodeState.SERVING, client_address="10.0.0.1:7400"
        ),
        "b": NodeRecord("b", "x:2", state=NodeState.DRAINING, client_address="[::1]:7400"),
        "c": NodeRecord("c", "x:3", state=NodeState.STARTING, client_address="10.0.0.3:7400"),
        "old": NodeRecord("old", "x:4", state=NodeState.SERVING),
        "bad": NodeRecord("bad", "x:5", state=NodeState.SERVING, client_address="nowhere"),
    }
    assert sorted(endpoints_of(nodes)) == [
        A,
        Endpoint("::1", 7400, draining=True),
    ]


class Client:
    """One stream, by hand."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.aio.insecure_channel(target)
        self.stream = self.channel.stream_stream(
            f"/{SERVICE}/StreamAggregatedResources",
            request_serializer=pb.DiscoveryRequest.SerializeToString,
            response_deserializer=pb.DiscoveryResponse.FromString,
        )()

    async def ask(self, url: str, *names: str, nonce: str = "", bad: str = "") -> None:
        error = pb.Status(code=3, message=bad) if bad else None
        await self.stream.write(
            pb.DiscoveryRequest(
                node=pb.Node(id="me"),
                type_url=url,
                resource_names=names,
                response_nonce=nonce,
                error_detail=error,
            )
        )

    async def next(self) -> pb.DiscoveryResponse:
        async with asyncio.timeout(10):
            response = await self.stream.read()
        assert isinstance(response, pb.DiscoveryResponse)
        return response

    async def nothing(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asyncio.shield(self._later())

    async def _later(self) -> object:
        return await self.stream.read()


@pytest.fixture
async def discovery() -> AsyncIterator[tuple[Discovery, Client]]:
    found = Discovery()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((found.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = Client(f"127.0.0.1:{port}")
    yield found, client
    await client.channel.close()
    await server.stop(0)


async def test_the_chain_of_names(discovery: tuple[Discovery, Client]) -> None:
    found, client = discovery
    found.publish([A])
    for url, name in ((LISTENER, NAME), (ROUTE, ROUTES), (CLUSTER, NAME), (ENDPOINTS, NAME)):
        await client.ask(url, name)
        response = await client.next()
        assert response.type_url == url
        assert len(response.resources) == 1
        await client.ask(url, name, nonce=response.nonce)


async def test_a_change_is_told_once_and_to_who_asked(discovery: tuple[Discovery, Client]) -> None:
    found, client = discovery
    found.publish([A])
    await client.ask(ENDPOINTS, NAME)
    first = await client.next()
    await client.ask(ENDPOINTS, NAME, nonce=first.nonce)
    found.publish([A])
    found.publish([A, B])
    second = await client.next()
    assert second.version_info != first.version_info
    held = pb.ClusterLoadAssignment.FromString(second.resources[0].value)
    assert len(held.endpoints) == 2
    await client.nothing()


async def test_a_refusal_and_an_old_nonce_are_not_answered(
    discovery: tuple[Discovery, Client],
) -> None:
    found, client = discovery
    found.publish([A])
    await client.ask(ENDPOINTS, NAME)
    first = await client.next()
    await client.ask(ENDPOINTS, NAME, nonce=first.nonce, bad="I do not like it")
    await client.ask(ENDPOINTS, "another", nonce="17")
    await client.ask("type.googleapis.com/unknown", NAME)
    await client.nothing()


async def test_who_asks_before_there_is_anything_hears_of_it_later(
    discovery: tuple[Discovery, Client],
) -> None:
    found, client = discovery
    await client.ask(ENDPOINTS, NAME)
    assert not (await client.next()).resources
    found.publish([B])
    assert len((await client.next()).resources) == 1
