"""`chinwag send`: sends a message and says where it is stored."""

from __future__ import annotations

import argparse
import json
import sys
import time

from chinwag.chat.v1 import connect_pb2, message_pb2
from chinwag.ids import MessageIds
from chinwag_server.cli.exits import Exit
from chinwag_server.cli.people import add_profile, logged_in
from chinwag_server.cli.people import run as run_work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", help="an id, #name, or @user for a direct message")
    parser.add_argument("text", nargs="?", help="the text; without it, standard input")
    parser.add_argument("--json", action="store_true", help="for a script")
    add_profile(parser)


def run(args: argparse.Namespace) -> int:
    text = args.text if args.text is not None else sys.stdin.read().rstrip("\n")

    async def work() -> None:
        async with logged_in(args) as me:
            view = await me.find_channel(args.channel)
            request = connect_pb2.SendMessageRequest(
                channel_id=view.channel.id,
                client_message_id=MessageIds().draw(time.time()),
                content=message_pb2.MessageContent(text=text),
            )
            # Calls retries with the same client_message_id, so it is stored once.
            sent = (await me.call(me.chat.SendMessage, request)).message
            if args.json:
                print(json.dumps({"channel_id": sent.channel_id, "id": sent.id}))
            else:
                print(f"stored as {sent.id}")

    run_work(work())
    return Exit.OK
