"""Writes many messages into a channel through the store, as the server would, only faster."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.drive import Place
from chinwag.chat.v1 import entry_pb2, message_pb2
from chinwag_server.chat.entries import COUNT_RULE, timestamp
from chinwag_server.chat.sqlite import SqliteChatStore
from chinwag_server.chat.store import AppendEntry, EntryKind
from chinwag_server.datadir import DataDir

SUBMISSION = 500
IN_FLIGHT = 20


def fill(data: Path, user_ids: list[str], place: Place, count: int) -> Place:
    """Appends `count` messages of the channel's members in turn; the server must not run.

    Returns:
        The place with its new head; its cursor stays.
    """
    return asyncio.run(_fill(data, user_ids, place, count))


async def _fill(data: Path, user_ids: list[str], place: Place, count: int) -> Place:
    directory = DataDir(data)
    directory.open()
    try:
        store = SqliteChatStore(directory)
        await store.open()
        try:
            head = await _append(store, [user_ids[m] for m in place.members], place, count)
        finally:
            await store.close()
    finally:
        directory.close()
    return Place(place.channel_id, place.members, place.generation, place.cursor, head)


async def _append(store: SqliteChatStore, senders: list[str], place: Place, count: int) -> int:
    channel = await store.channel(place.channel_id)
    if channel is None:
        raise RuntimeError(f"the store has no channel {place.channel_id}")
    room = asyncio.Semaphore(IN_FLIGHT)
    failures: list[Exception] = []

    def done(_stamp: int, error: Exception | None) -> None:
        room.release()
        if error is not None:
            failures.append(error)

    # A message a second, the newest one now.
    start_us = int(time.time()) * 1_000_000 - count * 1_000_000
    head = channel.head_id
    for first in range(0, count, SUBMISSION):
        await room.acquire()
        if failures:
            raise failures[0]
        writes = [
            _message(
                place.channel_id,
                senders[index % len(senders)],
                channel.head_id + 1 + index,
                channel.head_count + 1 + index,
                start_us + index * 1_000_000,
            )
            for index in range(first, min(first + SUBMISSION, count))
        ]
        head = writes[-1].id
        store.submit(writes, done)
    for _ in range(IN_FLIGHT):
        await room.acquire()
    if failures:
        raise failures[0]
    return head


def _message(channel_id: str, sender: str, entry_id: int, count: int, time_us: int) -> AppendEntry:
    # A UUID of version 7: its time, and the id instead of random bits.
    raw = (time_us // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + entry_id.to_bytes(7, "big")
    hexed = raw.hex()
    parts = (hexed[:8], hexed[8:12], hexed[12:16], hexed[16:20], hexed[20:])
    entry = entry_pb2.Entry(
        channel_id=channel_id,
        id=entry_id,
        create_time=timestamp(time_us),
        actor_id=sender,
        device_id="bench",
        timeline_count=count,
        count_rule=COUNT_RULE,
        message_sent=entry_pb2.MessageSent(
            client_message_id="-".join(parts),
            content=message_pb2.MessageContent(text=f"message {entry_id} ".ljust(100, ".")),
        ),
    )
    return AppendEntry(
        channel_id=channel_id,
        id=entry_id,
        kind=EntryKind.MESSAGE_SENT,
        payload=entry.SerializeToString(),
        timeline_count=count,
        time_us=time_us,
        message_id=entry_id,
        sender_id=sender,
        client_message_id=raw,
        content_hash=entry_id.to_bytes(16, "big"),
    )
