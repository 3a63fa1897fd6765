"""What the commands for people share: the login that is kept, and calls under it.

A login is kept in a file of mode 0600: $CHINWAG_HOME/NAME.json, by default
~/.config/chinwag/default.json. `--profile NAME` keeps several.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import platform
import re
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from chinwag.account.v1 import account_service_pb2 as account_pb
from chinwag.account.v1 import account_service_pb2_grpc
from chinwag.addresses import parse_addresses
from chinwag.calls import Calls
from chinwag.chat.v1 import channel_pb2, chat_service_pb2_grpc
from chinwag.chat.v1 import chat_service_pb2 as chat_pb
from chinwag.errors import ChinwagError, Unauthenticated, Unavailable
from chinwag.routes import open_routes
from chinwag.session import Session, SessionCredential, log_in, sign_up
from chinwag.transport import Security
from chinwag_server.cli.exits import CommandError, Exit

DEFAULT_TARGET = "localhost:7400"
_PROFILE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
Answer = TypeVar("Answer")


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Gives a parser --profile and the options of a connection."""
    parser.add_argument(
        "--profile",
        default=os.environ.get("CHINWAG_PROFILE", "default"),
        metavar="NAME",
        help="which kept login to use [CHINWAG_PROFILE]",
    )
    parser.add_argument(
        "--server",
        type=targets,
        metavar="TARGET[,TARGET...]",
        help=f"any node, or several with commas [where the login was made, or {DEFAULT_TARGET}]",
    )
    parser.add_argument("--tls", action="store_true", help="use TLS on loopback too")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="trust this authority; means TLS")
    parser.add_argument(
        "--insecure", action="store_true", help="plain text to an address that is not loopback"
    )


def add_login(parser: argparse.ArgumentParser) -> None:
    """Gives a parser what signing up and logging in need."""
    parser.add_argument("name", help="the user name")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )
    add_profile(parser)


def targets(text: str) -> str:
    """The value of a --server option: "host:port", or several with commas.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return ",".join(parse_addresses(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def server_of(args: argparse.Namespace, session: Session) -> str:
    """Where to connect: what --server says, or else where the login was made."""
    return args.server or session.address or DEFAULT_TARGET


def profile_path(name: str) -> Path:
    """Where a profile's login is kept."""
    if not _PROFILE.match(name):
        raise CommandError(f"--profile {name!r}: expected letters, digits, - and _", Exit.USAGE)
    home = os.environ.get("CHINWAG_HOME")
    directory = Path(home) if home else Path.home() / ".config" / "chinwag"
    return directory / f"{name}.json"


def security(args: argparse.Namespace) -> Security:
    """How the options say to connect."""
    tls: bool | Path | None = args.ca or (True if args.tls else None)
    return Security(tls, args.insecure)


def load_session(args: argparse.Namespace) -> Session:
    """The kept login.

    Raises:
        CommandError: There is none.
    """
    path = profile_path(args.profile)
    try:
        return Session.load(path)
    except FileNotFoundError as error:
        raise CommandError(
            "not logged in: `chinwag signup NAME` or `chinwag login NAME` first", Exit.USAGE
        ) from error
    except ValueError as error:
        raise CommandError(str(error)) from error


def read_password(args: argparse.Namespace, *, twice: bool) -> str:
    """The password, from standard input or typed."""
    if args.password_stdin or not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if twice and getpass.getpass("Again: ") != password:
        raise CommandError("the two passwords differ", Exit.USAGE)
    return password


def enter(args: argparse.Namespace, *, new: bool) -> int:
    """Signs up or logs in, and keeps the session."""
    path = profile_path(args.profile)
    password = read_password(args, twice=new)
    begin = sign_up if new else log_in
    secured = security(args)

    async def work() -> Session:
        return await begin(
            args.server or DEFAULT_TARGET,
            args.name,
            password,
            device_name=f"chinwag on {platform.node() or 'a machine'}"[:64],
            tls=secured.tls,
            insecure=secured.insecure,
        )

    session = run(work())
    session.save(path)
    print(f"{'welcome' if new else 'hello again'}, {args.name}; now: chinwag chat")
    return Exit.OK


def run(work: Awaitable[Answer]) -> Answer:
    """Runs a command's work and turns what the SDK raises into what commands end with."""

    async def main() -> Answer:
        return await work

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return asyncio.run(main())
    except Unavailable as error:
        raise CommandError(f"the server cannot be reached: {error}", Exit.UNREACHABLE) from error
    except Unauthenticated as error:
        if error.reason == "CREDENTIALS_INVALID":
            raise CommandError("wrong name or wrong password", Exit.REFUSED) from error
        raise CommandError(f"log in again: {error}", Exit.REFUSED) from error
    except ChinwagError as error:
        wrong = "".join(f"\n  {field}: {text}" for field, text in error.fields.items())
        raise CommandError(f"{error}{wrong}", Exit.REFUSED) from error


@dataclass(slots=True)
class Me:
    """Calls as the user who is logged in."""

    session: Session
    call: Calls
    chat: chat_service_pb2_grpc.ChatServiceAsyncStub
    account: account_service_pb2_grpc.AccountServiceAsyncStub

    async def channels(self, *, archived: bool = True) -> AsyncIterator[chat_pb.ChannelView]:
        """All channels, the newest first."""
        token = ""
        while True:
            request = chat_pb.ListChannelsRequest(
                page_size=200, page_token=token, include_archived=archived
            )
            page = await self.call(self.chat.ListChannels, request)
            for view in page.channels:
                yield view
            token = page.next_page_token
            if not token:
                return

    async def find_channel(self, words: str) -> chat_pb.ChannelView:
        """The channel that somebody means: by id, by "#name", or by "@user", which makes the
        direct channel if need be.

        Raises:
            CommandError: There is none, or more than one.
        """
        if words.startswith("@"):
            found = await self.call(
                self.account.FindUser, account_pb.FindUserRequest(username=words[1:])
            )
            made = await self.call(
                self.chat.CreateChannel,
                chat_pb.CreateChannelRequest(
                    kind=channel_pb2.CHANNEL_KIND_DIRECT, member_user_ids=[found.user.id]
                ),
            )
            return made.channel
        name = words.removeprefix("#")
        matches = [
            view
            async for view in self.channels()
            if view.channel.id == words or view.channel.name == name
        ]
        if len(matches) != 1:
            what = "no channel" if not matches else f"{len(matches)} channels"
            raise CommandError(
                f"{what} called {words!r}: `chinwag channels` lists them with their ids",
                Exit.USAGE,
            )
        return matches[0]

    async def names(self, user_ids: set[str]) -> dict[str, str]:
        """Users' names by id; unknown ones stand for themselves."""
        names = {user_id: user_id for user_id in user_ids if user_id}
        ids = sorted(names)
        for start in range(0, len(ids), 100):
            request = account_pb.GetUsersRequest(user_ids=ids[start : start + 100])
            answer = await self.call(self.account.GetUsers, request)
            for user in answer.users:
                names[user.id] = user.username or user.display_name or user.id
        return names


@asynccontextmanager
async def logged_in(args: argparse.Namespace) -> AsyncIterator[Me]:
    """Calls under the kept login."""
    session = load_session(args)
    channel = open_routes(server_of(args, session), security(args))
    try:
        yield Me(
            session,
            Calls(SessionCredential(session, channel)),
            chat_service_pb2_grpc.ChatServiceStub(channel),
            account_service_pb2_grpc.AccountServiceStub(channel),
        )
    finally:
        await channel.close()
