"""`chinwag history`: prints the messages of a channel, the newest last."""

from __future__ import annotations

import argparse

from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag.chat.v1 import message_pb2
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.messages import as_json, as_line
from chinwag_server.cli.people import Me, add_profile, logged_in
from chinwag_server.cli.people import run as run_work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", help="an id, #name or @user")
    parser.add_argument("-n", "--limit", type=int, default=50, metavar="N", help="how many [50]")
    parser.add_argument("--before", type=int, default=0, metavar="ID", help="older than this one")
    parser.add_argument("--json", action="store_true", help="one line of JSON a message")
    add_profile(parser)


def run(args: argparse.Namespace) -> int:
    if args.limit < 1 or args.before < 0:
        raise CommandError("--limit is at least 1, --before at least 0", Exit.USAGE)

    async def work() -> None:
        async with logged_in(args) as me:
            view = await me.find_channel(args.channel)
            messages = await _read(me, view.channel.id, args.before, args.limit)
            names = {} if args.json else await me.names({m.sender_id for m in messages})
            for message in messages:
                print(as_json(message) if args.json else as_line(message, names))

    run_work(work())
    return Exit.OK


async def _read(me: Me, channel_id: str, before: int, limit: int) -> list[message_pb2.Message]:
    found: list[message_pb2.Message] = []
    while len(found) < limit:
        request = pb.ListMessagesRequest(
            channel_id=channel_id, page_size=min(200, limit - len(found))
        )
        if before:
            request.before_id = before
        page = await me.call(me.chat.ListMessages, request)
        found = [*page.messages, *found]
        if not page.has_more_before or not page.messages:
            break
        before = page.messages[0].id
    return found
