"""Clients of every kind over several nodes, which are killed, drain and shed load."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

import chinwag
from chinwag import blocking, errors, transport
from chinwag import events as ev
from chinwag.chat.v1 import chat_service_pb2
from chinwag.common.v1 import close_pb2
from chinwag.session import Session
from chinwag_server.chat.guidance import overloaded
from chinwag_server.clock import SystemClock
from chinwag_server.rpc.admission import Admission
from chinwag_server.rpc.ratelimit import Rate
from tests.sdk.nodes import CHANNEL, Nodes
from tests.sdk.test_client_real import Application
from tests.server.serving import Served

Reason = close_pb2.CloseReason
NOBODY = "127.0.0.1:1"


def session() -> Session:
    return Session("ada", "d", "token")


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Two nodes over one store."""
    with Nodes(2) as running:
        yield running


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a node that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def request() -> chat_service_pb2.GetChannelRequest:
    return chat_service_pb2.GetChannelRequest(channel_id=CHANNEL)


# --- the asyncio client ---


async def test_nodes_that_are_away_cost_no_wait(nodes: Nodes) -> None:
    addresses = [NOBODY, "127.0.0.1:2", nodes.addresses[0]]
    for _ in range(8):
        started = time.monotonic()
        async with chinwag.connect(addresses, session()) as client:
            answer = await client.call(client.chat.GetChannel, request())
            assert answer.channel.channel.id == CHANNEL
        assert time.monotonic() - started < 1.0


async def test_a_node_that_says_nothing(
    nodes: Nodes, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = (*transport.OPTIONS, ("grpc.min_reconnect_backoff_ms", 500))
    monkeypatch.setattr(transport, "OPTIONS", soon)
    for _ in range(4):
        started = time.monotonic()
        async with chinwag.connect([silent, nodes.addresses[0]], session()):
            pass
        assert time.monotonic() - started < 3.0


async def test_nothing_is_lost_or_doubled_when_nodes_are_killed(nodes: Nodes) -> None:
    rng = random.Random(7)
    async with chinwag.connect(",".join(nodes.addresses), session()) as client:
        seen = Application(client)
        await client.caught_up()
        handles = []
        for number in range(240):
            handles.append(client.channel(CHANNEL).post(f"mine {number}"))
            nodes.say(f"theirs {number}")
            if number % 30 == 15:
                await asyncio.sleep(rng.uniform(0, 0.1))
                in_use = client._endpoints.current
                await asyncio.to_thread(nodes.kill, in_use)
                await client.caught_up()
                await asyncio.to_thread(nodes.start, in_use)
            elif number % 4 == 0:
                await asyncio.sleep(0.002)
        ids = [(await asyncio.wait_for(handle, 20)).message_id for handle in handles]
        await seen.until(lambda: len(seen.texts) == 480)
        assert seen.texts == nodes.texts
        assert ids == sorted(set(ids))
        mine = [text for text in nodes.texts if text.startswith("mine")]
        assert mine == [f"mine {number}" for number in range(240)]
        assert set(nodes.opened) == set(nodes.addresses)
        await seen.stop()


async def test_a_killed_node_is_left_within_a_moment(nodes: Nodes) -> None:
    async with chinwag.connect(nodes.addresses, session()) as client:
        for _ in range(3):
            await client.caught_up()
            in_use = client._endpoints.current
            started = time.monotonic()
            await asyncio.to_thread(nodes.kill, in_use)
            await asyncio.wait_for(client.channel(CHANNEL).send("x"), 10)
            assert time.monotonic() - started < 2.0
            await asyncio.to_thread(nodes.start, in_use)


async def test_guidance_to_another_node(nodes: Nodes) -> None:
    async with chinwag.connect(nodes.addresses, session()) as client:
        await client.caught_up()
        first = nodes.opened[0]
        (other,) = set(nodes.addresses) - {first}
        close = close_pb2.Close(reason=Reason.CLOSE_REASON_MOVED, reconnect=True, address=other)
        close.jitter.FromMilliseconds(50)
        nodes.close(first, close)
        await asyncio.wait_for(client.channel(CHANNEL).send("there"), 10)
        assert nodes.opened == [first, other]
        # Unary calls go there too, and the connection to the other one is given up.
        assert client._endpoints.current == other
        assert client._routes is not None
        assert list(client._routes._channels) == [other]
        drain = close_pb2.Close(reason=Reason.CLOSE_REASON_DRAINING, reconnect=True)
        drain.jitter.FromMilliseconds(50)
        nodes.close(other, drain)
        await asyncio.wait_for(client.channel(CHANNEL).send("and back"), 10)
        assert nodes.opened == [first, other, first]


async def test_an_unknown_address_gets_no_token(nodes: Nodes) -> None:
    own, foreign = nodes.addresses
    close = close_pb2.Close(reason=Reason.CLOSE_REASON_MOVED, reconnect=True, address=foreign)
    close.jitter.FromMilliseconds(50)
    async with chinwag.connect(own, session()) as client:
        await client.caught_up()
        nodes.close(own, close)
        await asyncio.wait_for(client.channel(CHANNEL).send("x"), 10)
    assert set(nodes.opened) == {own}
    async with chinwag.connect(own, session(), allow_address=foreign.__eq__) as client:
        await client.caught_up()
        nodes.close(own, close)
        await asyncio.wait_for(client.channel(CHANNEL).send("y"), 10)
        assert nodes.opened[-1] == foreign
        await asyncio.to_thread(nodes.kill, foreign)
        await asyncio.wait_for(client.channel(CHANNEL).send("z"), 10)
        assert nodes.opened[-1] == own


async def test_calls_go_to_the_next_node(nodes: Nodes) -> None:
    async with chinwag.connect(nodes.addresses, session()) as client:
        await client.caught_up()
        bad = client._endpoints.current

        def breaks(address: str, context: grpc.ServicerContext) -> None:
            if address == bad:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")

        nodes.breaks = breaks
        started = time.monotonic()
        await client.call(client.chat.GetChannel, request())
        assert nodes.called["GetChannel"] == 2
        await client.call(client.chat.GetChannel, request())
        assert nodes.called["GetChannel"] == 3, "the one that failed is avoided"
        assert time.monotonic() - started < 1.0


async def test_a_call_that_must_not_be_made_twice(nodes: Nodes) -> None:
    typing = chat_service_pb2.SendTypingRequest(channel_id=CHANNEL)
    async with chinwag.connect([NOBODY, *nodes.addresses], session()) as client:
        # A node that is away gets nothing, so another one may be asked.
        client._endpoints.use(NOBODY)
        await client.call(client.chat.SendTyping, typing)
        assert nodes.called["SendTyping"] == 1

        def breaks(_address: str, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken")

        nodes.breaks = breaks
        with pytest.raises(errors.Unavailable):
            await client.call(client.chat.SendTyping, typing)
        assert nodes.called["SendTyping"] == 2


async def test_all_nodes_away_for_a_while(nodes: Nodes) -> None:
    async with chinwag.connect(nodes.addresses, session()) as client:
        await client.caught_up()
        for address in nodes.addresses:
            await asyncio.to_thread(nodes.kill, address)
        handle = client.channel(CHANNEL).post("meanwhile")
        call = asyncio.ensure_future(client.call(client.chat.GetChannel, request()))
        await asyncio.sleep(0.3)
        nodes.start(nodes.addresses[0])
        await asyncio.wait_for(handle, 30)
        await asyncio.wait_for(call, 20)
    assert nodes.texts == ["meanwhile"]


async def test_a_storm_drains_at_the_rate() -> None:
    """The SDK and the server's admission together: all are in soon, and none comes in vain."""
    clients, rate, burst = 60, 25.0, 10.0
    admission = Admission(Rate(rate, burst), SystemClock())
    admitted: list[float] = []

    def on_open(_address: str) -> close_pb2.Close | None:
        when = admission.take()
        if when is None:
            admitted.append(time.monotonic())
            return None
        return overloaded(when)[0]

    with Nodes(1, on_open) as nodes:
        started = time.monotonic()
        made = [
            chinwag.connect(nodes.addresses[0], Session("ada", f"d{number}", "token"))
            for number in range(clients)
        ]
        await asyncio.gather(*(client.start() for client in made))
        took = time.monotonic() - started
        assert len(admitted) == clients
        assert (clients - burst) / rate - 0.5 < took < clients / rate + 2.0
        assert len(nodes.opened) <= 2 * clients
        for first, at in enumerate(admitted):
            within = sum(at <= other < at + 1.0 for other in admitted[first:])
            assert within <= rate + burst + 1
        await asyncio.gather(*(client.close() for client in made))


async def test_a_login_over_several_addresses(server: Served) -> None:
    addresses = [NOBODY, server.target]
    made = await chinwag.sign_up(addresses, "ada", "correct horse battery")
    assert made.address == f"{NOBODY},{server.target}"
    async with chinwag.connect(session=made) as client:
        assert (await client.account.me()).user.username == "ada"


# --- the backend's client ---


async def test_the_feed_goes_on_at_another_node(nodes: Nodes) -> None:
    seen: list[int] = []
    async with chinwag.Backend(nodes.addresses, "key") as backend:
        async for batch in backend.stream_events():
            seen += [entry.id for entry in batch.entries]
            if len(seen) >= 60:
                break
            if len(seen) == len(nodes.server.logs[CHANNEL].entries):
                for number in range(6):
                    nodes.say(str(number))
                in_use = nodes.opened[-1]
                await asyncio.to_thread(nodes.kill, in_use)
                await asyncio.to_thread(nodes.start, in_use)
    assert list(dict.fromkeys(seen)) == list(range(1, max(seen) + 1))


async def test_a_message_of_a_backend_is_stored_once(nodes: Nodes) -> None:
    broken: list[str] = []

    def breaks(address: str, context: grpc.ServicerContext) -> None:
        if not broken:
            broken.append(address)
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken after it was stored")

    nodes.breaks = breaks
    async with chinwag.Backend(nodes.addresses, "key") as backend:
        message = await backend.send("ada", CHANNEL, "once")
    assert broken
    assert nodes.called["SendMessage"] == 2
    assert (message.id, nodes.texts) == (2, ["once"])


# --- without asyncio ---


def test_blocking_nothing_is_lost_or_doubled_when_nodes_are_killed(nodes: Nodes) -> None:
    texts: list[str] = []
    with blocking.connect(nodes.addresses, session()) as client:

        def listen() -> None:
            for event in client.events():
                if isinstance(event, ev.MessageReceived):
                    texts.append(event.text)

        listening = threading.Thread(target=listen)
        listening.start()
        handles = []
        for number in range(120):
            handles.append(client.post(CHANNEL, f"mine {number}"))
            nodes.say(f"theirs {number}")
            if number % 30 == 15:
                in_use = client._endpoints.current
                nodes.kill(in_use)
                client.call(client.chat.GetChannel, request())
                handles.pop().result(20)
                nodes.start(in_use)
        for handle in handles:
            handle.result(20)
        until = time.monotonic() + 10
        while len(texts) < 240 and time.monotonic() < until:
            time.sleep(0.02)
        client.close()
        listening.join(5)
    assert texts == nodes.texts
    assert len(texts) == 240


def test_blocking_guidance_and_calls(nodes: Nodes) -> None:
    with blocking.connect([NOBODY, *nodes.addresses], session()) as client:
        first = nodes.opened[0]
        (other,) = set(nodes.addresses) - {first}
        client.send(CHANNEL, "here", timeout_s=10)
        close = close_pb2.Close(reason=Reason.CLOSE_REASON_MOVED, reconnect=True, address=other)
        close.jitter.FromMilliseconds(50)
        nodes.close(first, close)
        client.send(CHANNEL, "there", timeout_s=10)
        assert nodes.opened == [first, other]
        typing = chat_service_pb2.SendTypingRequest(channel_id=CHANNEL)
        client._endpoints.use(NOBODY)
        client.call(client.chat.SendTyping, typing)
        assert nodes.called["SendTyping"] == 1
    assert nodes.texts == ["here", "there"]


def test_blocking_feed_goes_on_at_another_node(nodes: Nodes) -> None:
    nodes.say("before")
    seen: list[int] = []
    with blocking.Backend(nodes.addresses, "key") as backend:
        for batch in backend.stream_events():
            seen += [entry.id for entry in batch.entries]
            if len(seen) >= 8:
                break
            nodes.kill(nodes.opened[-1])
            nodes.start(nodes.opened[-1])
            for number in range(3):
                nodes.say(str(number))
    assert list(dict.fromkeys(seen)) == list(range(1, max(seen) + 1))
