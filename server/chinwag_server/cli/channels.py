"""`chinwag channels`: lists your channels."""

from __future__ import annotations

import argparse
import json

from chinwag.chat.v1 import channel_pb2
from chinwag_server.cli.exits import Exit
from chinwag_server.cli.messages import printable
from chinwag_server.cli.people import add_profile, logged_in
from chinwag_server.cli.people import run as run_work


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one line of JSON a channel")
    add_profile(parser)


def run(args: argparse.Namespace) -> int:
    async def work() -> None:
        async with logged_in(args) as me:
            views = [view async for view in me.channels()]
            people = {user for view in views for user in view.channel.direct_user_ids}
            names = await me.names(people)
            for view in views:
                channel, state = view.channel, view.state
                others = [u for u in channel.direct_user_ids if u != me.session.user_id]
                name = f"@{names[others[0]]}" if others else f"#{channel.name}"
                if args.json:
                    print(
                        json.dumps(
                            {
                                "id": channel.id,
                                "kind": channel_pb2.ChannelKind.Name(channel.kind)
                                .removeprefix("CHANNEL_KIND_")
                                .lower(),
                                "name": channel.name,
                                "users": list(channel.direct_user_ids),
                                "members": channel.member_count,
                                "unread": state.unread_count,
                                "mentions": state.unread_mention_count,
                                "head_id": channel.head_id,
                            },
                            ensure_ascii=False,
                        )
                    )
                else:
                    unread = f"{state.unread_count} unread" if state.unread_count else ""
                    print(f"{channel.id}  {printable(name):30} {unread}")

    run_work(work())
    return Exit.OK
