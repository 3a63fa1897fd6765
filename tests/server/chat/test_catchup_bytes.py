"""Catch-up hands on stored bytes: it neither reads them nor makes them anew."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from chinwag.chat.v1 import connect_pb2, entry_pb2
from chinwag_server.chat import frames
from chinwag_server.chat.memory import MemoryChatStore
from chinwag_server.chat.store import AppendEntry, ChatStore, EntryKind
from chinwag_server.rpc.caller import Caller
from tests.server.chat.rules import START_US, Room, cursors, settle
from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_writes import commit

ENTRIES = 1000
# The type of a field that there is not: whoever reads the entry fails.
NO_PROTOBUF = b"\x0f"


class ByteSink:
    """Takes frames as they are."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def room(self) -> int:
        return 1 << 20

    def offer(self, data: bytes) -> bool:
        self.send(data)
        return True

    def send(self, data: bytes) -> None:
        self.frames.append(data)

    def finish(self) -> None:
        raise AssertionError("the stream was ended")


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ChatStore]:
    if request.param == "sqlite":
        async with opened(tmp_path / "data") as sqlite:
            yield sqlite
    else:
        memory = MemoryChatStore()
        await memory.open()
        yield memory
        await memory.close()


async def test_entries_are_never_parsed(store: ChatStore) -> None:
    room = Room(store)
    group = await room.group("ann", "bob")
    rng = random.Random(7)
    payloads = [NO_PROTOBUF + rng.randbytes(rng.randrange(300)) for _ in range(ENTRIES)]
    with pytest.raises(DecodeError):
        entry_pb2.Entry.FromString(payloads[0])
    kind = EntryKind.MESSAGE_SENT
    await commit(
        store,
        [
            AppendEntry(group, entry_id, kind, payload, entry_id - 1, START_US, entry_id)
            for entry_id, payload in enumerate(payloads, 2)  # after the channel's creation
        ],
    )
    sink = ByteSink()
    stream = room.room.streams.open(Caller("bob", "bob-1"), sink)
    have = cursors((group, 1), generation=store.generation)
    hello = connect_pb2.Hello(protocol_version=1, cursors=have)
    await stream.receive(connect_pb2.ConnectRequest(hello=hello).SerializeToString())
    while not stream.live:
        assert not stream.closed
        await settle()
    await settle()
    # A frame is the joined bytes of its events: so are all frames.
    sent = b"".join(sink.frames)
    assert b"".join(map(frames.entry, payloads)) in sent
    assert len(sink.frames) < ENTRIES / 50, "many entries share a frame"
    await room.room.stop()
