"""The `chinwag` command: one module a sub-command, imported only when it is the one that runs.

A module `cli/NAME.py` (or package; `-` is `_` there) has `add_arguments(parser)` and
`run(args) -> int`, which gives an exit code of `cli.exits`, and stands with a line of help in
`COMMANDS`. What is wrong is raised as `CommandError`: the text goes to the standard error stream,
and its code is the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from chinwag_server import __version__
from chinwag_server.cli.exits import CommandError, Exit

COMMANDS = {
    # people
    "signup": "make an account on a server, and log in",
    "login": "log in to an account",
    "chat": "talk, in a full-screen terminal client",
    "send": "send a message",
    "history": "print the messages of a channel",
    "tail": "print messages as they come",
    "channels": "list your channels",
    # operators
    "run": "start a node, with Envoy and the web page before it",
    "serve": "start a node alone",
    "config": "print the effective settings and where they come from",
    "apikey": "make an API key for a team's backend",
    "envoy": "print the configuration of an Envoy before the nodes",
    "xds": "tell Envoy and gRPC clients where the nodes are",
    "migrate": "make what the databases of a mesh lack",
    "raise-epochs": "after etcd was restored, have nodes own channels again",
    "backup": "copy the stores to a file, while the node runs",
    "restore": "make the stores from such a file",
    "check": "read all of the stores and verify that they are sound",
    "replay": "play conversations through real clients and verify every delivery",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Without the program's name; default: the process's arguments.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), "")
    parser = argparse.ArgumentParser(
        prog="chinwag",
        description="A self-hosted chat server and its clients.",
        epilog="`chinwag COMMAND --help` says more of a command.",
    )
    parser.add_argument("--version", action="version", version=f"chinwag {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module = None
    for name, text in COMMANDS.items():
        path = f"{__name__}.{name.replace('-', '_')}"
        if importlib.util.find_spec(path) is None:
            continue
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            module = importlib.import_module(path)
            module.add_arguments(command)
    args = parser.parse_args(arguments)
    assert module is not None
    try:
        code: int = module.run(args)
        sys.stdout.flush()
    except CommandError as error:
        print(f"chinwag {args.command}: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough; nothing more may be written, not even at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return code
