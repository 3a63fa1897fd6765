"""`chinwag chat`: a full-screen terminal client."""

from __future__ import annotations

import argparse
import os
import sys

from chinwag_server.cli.exits import CommandError, Exit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from chinwag_server.cli.people import add_profile  # noqa: PLC0415 - imports grpc

    add_profile(parser)


def run(args: argparse.Namespace) -> int:
    if not sys.stdout.isatty():
        raise CommandError("`chinwag chat` needs a terminal; `chinwag tail` does not", Exit.USAGE)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from chinwag_server.cli.chat.app import ChatApp  # noqa: PLC0415
    from chinwag_server.cli.chat.open import open_client  # noqa: PLC0415

    session, client = open_client(args)
    ChatApp(client, session.user_id, session.username or session.user_id).run()
    return Exit.OK
