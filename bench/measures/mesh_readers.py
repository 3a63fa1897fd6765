"""1,000 readers open the same page of a mesh at once: how often Cassandra is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import grpc

from bench.drive import Place
from bench.measures.common import Bench, user_ids
from bench.mesh import NODES, bench_mesh
from bench.probe import new_message
from bench.report import Row
from chinwag.chat.v1 import chat_service_pb2, chat_service_pb2_grpc
from chinwag_server.mesh.shards import shard_of

READERS = 1000
CONNECTIONS = 20
MESSAGES = 70
BEFORE_ID = 60
PAGE = 50
CALL_S = 60.0
SETTLED_S = 2.0
REACH_QUERIES = 1.0
# What a page is read from; the rest says who may see it.
OF_PAGES = ("entries", "bodies", "messages", "reactions", "timeline")


def measure(bench: Bench) -> list[Row]:
    """Rows: queries for the page at a node that has never read the channel."""
    with bench_mesh({"CHINWAG_LIMITS_GROUP_MEMBERS": str(READERS)}) as mesh:
        people = user_ids(READERS)
        devices = mesh.backend.users(people)
        place = mesh.backend.group(people, range(READERS), "read by all")
        tokens = [token for _, token in devices]
        asyncio.run(_fill(mesh.targets[0], place, tokens[0]))
        owner = mesh.wait_owned(among=NODES)[shard_of(place.channel_id)]
        edge = next(number for number in range(NODES) if number != owner)
        asyncio.run(asyncio.sleep(SETTLED_S))
        before = mesh.cassandra.reads()
        took_s = asyncio.run(_read(mesh.targets[edge], place, tokens))
        done = mesh.cassandra.reads()
    done.subtract(before)
    return [_row(done, took_s)]


async def _fill(target: str, place: Place, token: str) -> None:
    async with grpc.aio.insecure_channel(target) as link:
        stub = chat_service_pb2_grpc.ChatServiceStub(link)
        for _ in range(MESSAGES):
            await stub.SendMessage(
                new_message(place.channel_id), metadata=_as(token), timeout=CALL_S
            )


async def _read(target: str, place: Place, tokens: Sequence[str]) -> float:
    """All at once; gives the seconds until the last had its page.

    Raises:
        RuntimeError: Somebody's page is not whole.
    """
    # Without an option of its own each, channels to one address share a connection.
    links = [
        grpc.aio.insecure_channel(target, options=[("chinwag.bench", number)])
        for number in range(CONNECTIONS)
    ]
    stubs = [chat_service_pb2_grpc.ChatServiceStub(link) for link in links]
    await asyncio.gather(*(link.channel_ready() for link in links))
    request = chat_service_pb2.ListMessagesRequest(
        channel_id=place.channel_id, before_id=BEFORE_ID, page_size=PAGE
    )
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answers = await asyncio.gather(
        *(
            stubs[number % CONNECTIONS].ListMessages(request, metadata=_as(token), timeout=CALL_S)
            for number, token in enumerate(tokens)
        )
    )
    took_s = loop.time() - begun
    for link in links:
        await link.close()
    for answer in answers:
        if len(answer.messages) != PAGE:
            raise RuntimeError(f"expected a page of {PAGE} messages, got {len(answer.messages)}")
    return took_s


def _as(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


def _row(done: Counter[str], took_s: float) -> Row:
    asked = {table: count for table, count in done.items() if count}
    page = sum(count for table, count in asked.items() if table in OF_PAGES)
    told = ", ".join(f"{table} {count}" for table, count in sorted(asked.items()))
    return Row(
        f"{READERS:,} readers open the same page at once: queries for it",
        page,
        "",
        REACH_QUERIES,
        detail=f"Cassandra's reads by table: {told}; the last had it after {took_s:.1f} s",
    )
