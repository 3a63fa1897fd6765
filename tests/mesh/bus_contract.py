"""What every bus guarantees. A module with fixtures `make_bus`, which gives ends of one bus, and
`lose`, which breaks their connections for a moment, inherits the class."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from chinwag_server.mesh.bus import Bus

MakeBus = Callable[..., Awaitable[Bus]]
Lose = Callable[[], Awaitable[None]]
WAIT_S = 10.0


async def until(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, f"not within {WAIT_S:g} s: {what}"
        await asyncio.sleep(0.005)


def fail(payload: bytes) -> None:
    raise ValueError(payload)


class BusContract:
    async def test_every_end_hears_what_is_published(self, make_bus: MakeBus) -> None:
        buses = [await make_bus() for _ in range(3)]
        heard: list[list[bytes]] = [[] for _ in buses]
        for bus, payloads in zip(buses, heard, strict=True):
            bus.subscribe("ann", payloads.append)
            await bus.settle()
        buses[0].publish("ann", b"one")
        await until(lambda: heard == [[b"one"]] * 3, "all hear it, the publisher too")

    async def test_only_subscribed_topics_are_heard(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        heard: list[bytes] = []
        bus.subscribe("ann", heard.append)
        await bus.settle()
        for topic in ("bob", "an", "anna", "ann"):
            bus.publish(topic, topic.encode())
        await until(lambda: bool(heard), "the topic is heard")
        assert heard == [b"ann"]

    async def test_payloads_are_any_bytes(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        heard: list[bytes] = []
        bus.subscribe("ann", heard.append)
        await bus.settle()
        payloads = [b"", b"\0\r\n\xff", bytes(range(256)) * 4000]
        for payload in payloads:
            bus.publish("ann", payload)
        await until(lambda: len(heard) == 3, "all are heard")
        assert heard == payloads

    async def test_one_publishers_order_is_kept(self, make_bus: MakeBus) -> None:
        here, there = await make_bus(), await make_bus()
        heard: list[int] = []
        there.subscribe("ann", lambda payload: heard.append(int(payload)))
        await there.settle()
        for number in range(3000):
            here.publish("ann", b"%d" % number)
            if not number % 100:
                await asyncio.sleep(0)
        await until(lambda: len(heard) == 3000, "all are heard")
        assert heard == list(range(3000))
        assert here.dropped == 0

    async def test_nothing_is_received_within_publish(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        heard: list[bytes] = []
        bus.subscribe("ann", heard.append)
        await bus.settle()
        bus.publish("ann", b"one")
        assert heard == []
        await until(lambda: heard == [b"one"], "it is heard later")

    async def test_each_subscription_ends_by_itself(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        first: list[bytes] = []
        second: list[bytes] = []
        undo = bus.subscribe("ann", first.append)
        bus.subscribe("ann", second.append)
        await bus.settle()
        undo()
        undo()
        bus.publish("ann", b"one")
        await until(lambda: second == [b"one"], "the other is there")
        assert first == []
        bus.subscribe("ann", first.append)
        await bus.settle()
        bus.publish("ann", b"two")
        await until(lambda: first == [b"two"], "it is subscribed again")

    async def test_a_topic_left_by_all_can_be_subscribed_again(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        heard: list[bytes] = []
        for _ in range(5):
            bus.subscribe("ann", heard.append)()
        bus.subscribe("ann", heard.append)
        await bus.settle()
        bus.publish("ann", b"one")
        await until(lambda: bool(heard), "it is heard")
        await asyncio.sleep(0.02)
        assert heard == [b"one"]

    async def test_a_subscriber_that_fails_harms_no_other(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        heard: list[bytes] = []
        bus.subscribe("ann", fail)
        bus.subscribe("ann", heard.append)
        await bus.settle()
        bus.publish("ann", b"one")
        bus.publish("ann", b"two")
        await until(lambda: heard == [b"one", b"two"], "the other hears all")

    async def test_a_full_queue_drops_the_oldest_and_counts(self, make_bus: MakeBus) -> None:
        bus = await make_bus(max_queued=10)
        heard: list[int] = []
        bus.subscribe("ann", lambda payload: heard.append(int(payload)))
        await bus.settle()
        for number in range(100):
            bus.publish("ann", b"%d" % number)
        await until(lambda: len(heard) == 10, "the newest are heard")
        assert heard == list(range(90, 100))
        assert bus.dropped == 90

    async def test_a_gap_is_told_and_the_topics_are_heard_again(
        self, make_bus: MakeBus, lose: Lose
    ) -> None:
        bus = await make_bus()
        gaps: list[bool] = []
        untold: list[bool] = []
        heard: list[bytes] = []
        topics = [f"user:{number}" for number in range(300)]
        for topic in topics:
            bus.subscribe(topic, heard.append)
        bus.on_gap(lambda: gaps.append(True))
        bus.on_gap(lambda: untold.append(True))()
        await bus.settle()
        assert gaps == []
        await lose()
        await until(lambda: bool(gaps), "the gap is told")
        await bus.settle()
        for topic in topics:
            bus.publish(topic, topic.encode())
        await until(lambda: len(heard) == 300, "all topics are heard")
        assert sorted(heard) == sorted(topic.encode() for topic in topics)
        assert untold == []

    async def test_ten_thousand_topics_are_cheap(self, make_bus: MakeBus) -> None:
        bus = await make_bus()
        heard: list[bytes] = []
        started = time.process_time()
        undos = [bus.subscribe(f"user:{number}", heard.append) for number in range(10_000)]
        await bus.settle()
        for number in range(0, 10_000, 100):
            bus.publish(f"user:{number}", b"one")
        await until(lambda: len(heard) == 100, "they are heard")
        for undo in undos:
            undo()
        await bus.settle()
        # A tenth of a second in our process; the rest is for slow machines.
        assert time.process_time() - started < 5.0
