"""`chinwag tail`: prints messages as they come.

By the long poll (`Sync` with a wait), so that it does not take the stream of the same login's
`chinwag chat`: a device has one stream.
"""

from __future__ import annotations

import argparse
import asyncio

from chinwag.chat.v1 import channel_pb2, chat_service_pb2, entry_pb2
from chinwag.errors import ChinwagError
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.messages import as_json, as_line, of_entry
from chinwag_server.cli.people import Me, add_profile, logged_in
from chinwag_server.cli.people import run as run_work

WAIT_S = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", nargs="?", help="an id, #name or @user; without it, all")
    parser.add_argument(
        "-n", "--count", type=int, default=0, metavar="N", help="end after so many messages"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON a message")
    add_profile(parser)


def run(args: argparse.Namespace) -> int:
    if args.count < 0:
        raise CommandError("--count is at least 1", Exit.USAGE)
    run_work(_work(args))
    return Exit.OK


async def _work(args: argparse.Namespace) -> None:
    async with logged_in(args) as me:
        only = (await me.find_channel(args.channel)).channel.id if args.channel else ""
        await Tail(me, only, as_json=args.json, count=args.count).run()


class Tail:
    """Follows the user's channels.

    Args:
        only: One channel's id, or "" for all.
        count: After how many messages to end; 0: never.
    """

    def __init__(self, me: Me, only: str, *, as_json: bool, count: int) -> None:
        self._me = me
        self._only = only
        self._as_json = as_json
        self._left = count or -1
        self._cursors: dict[str, channel_pb2.Cursor] = {}
        self._stamp = ""
        self._titles: dict[str, str] = {}
        self._names: dict[str, str] = {}

    async def run(self) -> None:
        """Prints until the count is reached."""
        while self._left:
            request = chat_service_pb2.SyncRequest(
                resume_stamp=self._stamp, cursors=self._cursors.values()
            )
            # The first answer says where the channels stand, at once.
            request.wait.FromSeconds(WAIT_S if self._stamp else 0)
            try:
                answer = await self._me.call(self._me.chat.Sync, request, timeout_s=WAIT_S * 2)
            except ChinwagError as error:
                if not error.is_temporary:
                    raise
                await asyncio.sleep(error.retry_after or 1.0)
                continue
            for event in answer.events:
                await self._take(event)
                if not self._left:
                    return
            self._stamp = answer.stamp

    async def _take(self, event: entry_pb2.Event) -> None:
        kind = event.WhichOneof("event")
        if kind == "opened":
            channel = event.opened.channel
            self._titles[channel.id] = channel.name
            self._move(channel.id, channel.generation, event.opened.start_id)
        elif kind == "reset" and event.reset.generation:
            reset = event.reset
            self._move(reset.channel_id, reset.generation, reset.start_id)
        elif kind == "reset":
            self._cursors.pop(event.reset.channel_id, None)
        elif kind == "gap":
            self._cursors[event.gap.channel_id].id = event.gap.to_id
        elif kind == "entry":
            self._cursors[event.entry.channel_id].id = event.entry.id
            await self._print(event.entry)

    def _move(self, channel_id: str, generation: int, position: int) -> None:
        self._cursors[channel_id] = channel_pb2.Cursor(
            channel_id=channel_id, generation=generation, id=position
        )

    async def _print(self, entry: entry_pb2.Entry) -> None:
        if self._only not in ("", entry.channel_id) or not entry.HasField("message_sent"):
            return
        message = of_entry(entry)
        if self._as_json:
            print(as_json(message), flush=True)
        else:
            if entry.actor_id not in self._names:
                self._names.update(await self._me.names({entry.actor_id}))
            title = self._titles.get(entry.channel_id)
            where = f"#{title} " if title and not self._only else ""
            print(as_line(message, self._names, where=where), flush=True)
        self._left -= 1
