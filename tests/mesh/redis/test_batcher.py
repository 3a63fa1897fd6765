"""Many small calls become one, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from chinwag_server.mesh.redis.batcher import Batcher
from chinwag_server.mesh.unavailable import Unavailable


class Sender:
    """Takes batches, and gives each item's double when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return [2 * item for item in items]


def make(sender: Sender, timeout_s: float = 5.0) -> Batcher[int, int]:
    return Batcher("numbers", sender.send, most=10, waiting=20, timeout_s=timeout_s)


async def test_what_comes_meanwhile_is_the_next_batch() -> None:
    sender = Sender()
    batcher = make(sender)
    first = asyncio.create_task(batcher.put(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(batcher.put(number)) for number in range(2, 15)]
    await asyncio.sleep(0)
    sender.go.set()
    assert await asyncio.gather(first, *rest) == [2 * number for number in range(1, 15)]
    assert sender.batches == [[1], list(range(2, 12)), list(range(12, 15))]


async def test_sizes_count() -> None:
    sender = Sender()
    sender.go.set()
    batcher = make(sender)
    await asyncio.gather(batcher.put(1, 6), batcher.put(2, 6), batcher.put(3, 4))
    assert sender.batches == [[1], [2, 3]]


async def test_only_so_much_waits() -> None:
    sender = Sender()
    batcher = make(sender)
    tasks = [asyncio.create_task(batcher.put(number)) for number in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="numbers: 20 wait already"):
        await batcher.put(20)
    sender.go.set()
    assert len(await asyncio.gather(*tasks)) == 20
    assert await batcher.put(20) == 40


async def test_who_gave_up_is_not_sent() -> None:
    sender = Sender()
    batcher = make(sender, timeout_s=0.05)
    first = asyncio.create_task(batcher.put(1))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(batcher.put(2))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(Unavailable, match=r"not done within 0\.05 s"):
        await first
    sender.go.set()
    assert await batcher.put(3) == 6
    assert sender.batches == [[1], [3]]


async def test_a_batch_that_fails_fails_its_items_alone() -> None:
    sender = Sender()
    sender.go.set()
    sender.error = Unavailable("no")
    batcher = make(sender)
    found = await asyncio.gather(batcher.put(1), batcher.put(2), return_exceptions=True)
    assert [str(error) for error in found] == ["no", "no"]
    sender.error = None
    assert await batcher.put(3) == 6
