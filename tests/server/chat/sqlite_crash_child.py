"""Sends without a pause and prints each ack; test_sqlite_crash kills it.

Usage: python -m tests.server.chat.sqlite_crash_child DIRECTORY ROUND
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.server.chat.sqlite_store import opened
from tests.server.chat.store_writes import Author, commit


async def main(directory: Path, round_: str) -> None:
    async with opened(directory) as store:

        async def produce(channel_id: str) -> None:
            room = Author(channel_id)
            await commit(store, room.create())
            for number in range(1_000_000):
                await commit(store, room.send("ann", f"message {number} " + "x" * (number % 3000)))
                os.write(1, f"{channel_id} {room.head}\n".encode())

        await asyncio.gather(*(produce(f"r{round_}c{n}") for n in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
