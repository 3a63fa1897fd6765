"""AggregatedDiscoveryService: what is served, to everybody who asks, whenever it changes.

State of the world: a response has all that was asked for, and the client ACKs or NACKs it by its
nonce. Versions are opaque: a number, and a name drawn at the start, so that a process that starts
again is not taken for the old one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from chinwag_server.xds.pb import xds_pb2 as pb
from chinwag_server.xds.resources import CLUSTER, LISTENER, TYPES, Endpoint, Resources, resources

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_STREAMS = 10_000
MAX_NAMES = 1000
# Of these, no names mean all there are.
_WILDCARD = (CLUSTER, LISTENER)


@dataclass(slots=True)
class _Subscription:
    """What one client wants of one type.

    Attributes:
        nonce: Of the last response: an answer to an older one says nothing.
        sent: What that response held.
    """

    names: frozenset[str]
    nonce: str = ""
    sent: list[bytes] = field(default_factory=list)


class Discovery:
    """The service, and what it serves."""

    def __init__(self) -> None:
        self._resources: Resources = {}
        self._version = 0
        self._name = secrets.token_hex(4)
        self._changed = asyncio.Event()
        self._streams = 0

    def publish(self, endpoints: Collection[Endpoint]) -> None:
        """From now on these are where the nodes are."""
        fresh = resources(endpoints)
        if fresh == self._resources:
            return
        self._resources = fresh
        self._version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """For a grpc.aio server."""
        stream = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=pb.DiscoveryRequest.FromString,
            response_serializer=pb.DiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": stream})

    async def _serve(self, requests: AsyncIterator[pb.DiscoveryRequest], context: Any) -> None:
        if self._streams >= MAX_STREAMS:
            text = f"{MAX_STREAMS} clients are served already: ask another control plane"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._streams += 1
        client = _Client()
        reading = asyncio.ensure_future(self._read(requests, client))
        try:
            while not reading.done():
                changed = asyncio.ensure_future(self._changed.wait())
                for url in TYPES:
                    if (response := self._response(client, url)) is not None:
                        await context.write(response)
                news = asyncio.ensure_future(client.news.wait())
                await asyncio.wait([reading, changed, news], return_when=asyncio.FIRST_COMPLETED)
                client.news.clear()
                for task in (changed, news):
                    task.cancel()
            if (error := reading.exception()) is not None:
                raise error
        finally:
            self._streams -= 1
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[pb.DiscoveryRequest], client: _Client) -> None:
        async for request in requests:
            client.name = client.name or request.node.id
            url = request.type_url
            known = client.subscriptions.get(url)
            if request.HasField("error_detail"):
                # It keeps what it has; the same again would be refused again.
                log.error(
                    "the client %r refuses %s: %s", client.name, url, request.error_detail.message
                )
                continue
            if known is not None and request.response_nonce != known.nonce:
                continue  # an answer to a response that another has followed
            names = frozenset(request.resource_names)
            if url not in TYPES or len(names) > MAX_NAMES:
                log.warning("the client %r asks for %s, which is not served", client.name, url)
                continue
            if known is None or names != known.names:
                client.subscriptions[url] = _Subscription(names)
                client.news.set()

    def _response(self, client: _Client, url: str) -> pb.DiscoveryResponse | None:
        """What a client has yet to hear of a type."""
        subscription = client.subscriptions.get(url)
        if subscription is None:
            return None
        found = self._wanted(subscription, url)
        fresh = [resource.value for resource in found]
        if subscription.nonce and fresh == subscription.sent:
            return None
        client.nonces += 1
        subscription.nonce = str(client.nonces)
        subscription.sent = fresh
        return pb.DiscoveryResponse(
            version_info=f"{self._name}.{self._version}",
            resources=found,
            type_url=url,
            nonce=subscription.nonce,
        )

    def _wanted(self, subscription: _Subscription, url: str) -> list[AnyMessage]:
        every = self._resources.get(url, {})
        names = subscription.names
        if url in _WILDCARD and (not names or "*" in names):
            return list(every.values())
        return [resource for name, resource in every.items() if name in names]


class _Client:
    """One stream."""

    def __init__(self) -> None:
        self.name = ""
        self.subscriptions: dict[str, _Subscription] = {}
        self.news = asyncio.Event()
        self.nonces = 0
