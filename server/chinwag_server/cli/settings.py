"""Settings for commands that work on a node's data directory."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.config import ConfigError, Loaded, load


def load_settings(args: argparse.Namespace | None = None) -> Loaded:
    """The effective settings.

    Raises:
        CommandError: One is wrong.
    """
    try:
        return load(args, os.environ)
    except ConfigError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def add_data(parser: argparse.ArgumentParser) -> None:
    """Gives a parser --data."""
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="the node's data directory [the setting data_dir]"
    )


def data_dir(args: argparse.Namespace) -> Path:
    """The data directory that --data names, or the settings."""
    given: Path | None = args.data
    return given if given is not None else load_settings().settings.data_dir
