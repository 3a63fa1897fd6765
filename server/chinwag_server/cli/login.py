"""`chinwag login`: logs in and keeps the login."""

from __future__ import annotations

import argparse

from chinwag_server.cli.people import add_login, enter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_login(parser)


def run(args: argparse.Namespace) -> int:
    return enter(args, new=False)
