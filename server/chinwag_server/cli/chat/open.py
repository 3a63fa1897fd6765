"""The client of the terminal chat: the kept login, and a store beside it."""

from __future__ import annotations

import argparse

import chinwag
from chinwag.chat.v1 import connect_pb2
from chinwag_server.cli.exits import CommandError
from chinwag_server.cli.people import load_session, profile_path, security, server_of


def open_client(args: argparse.Namespace) -> tuple[chinwag.Session, chinwag.Client]:
    """The session and a client that has not connected yet.

    Raises:
        CommandError: Not logged in, or the store is in use by another `chinwag chat`.
    """
    session = load_session(args)
    path = profile_path(args.profile).with_suffix(f".{session.device_id[:24]}.db")
    try:
        store = chinwag.SqliteStore(path)
    except (ValueError, OSError) as error:
        raise CommandError(
            f"{error}: is another `chinwag chat` running with this profile?"
        ) from error
    secured = security(args)
    client = chinwag.connect(
        server_of(args, session),
        session,
        store=store,
        tls=secured.tls,
        insecure=secured.insecure,
        subscriptions=connect_pb2.Subscriptions(typing=True),
        wait_s=None,
    )
    return session, client
