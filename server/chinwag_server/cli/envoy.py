"""`chinwag envoy config`: Envoy's configuration, as the settings say."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import load_settings
from chinwag_server.config import ConfigError
from chinwag_server.config.sources import add_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["config"], help="print the configuration")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write it there, whole or not at all"
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    from chinwag_server.envoy.fronts import configured  # noqa: PLC0415 - the contract's descriptors
    from chinwag_server.envoy.page import PageError  # noqa: PLC0415
    from chinwag_server.envoy.render import bootstrap  # noqa: PLC0415

    try:
        config = bootstrap(configured(load_settings(args).settings))
    except (ConfigError, PageError) as error:
        raise CommandError(str(error), Exit.USAGE) from error
    text = json.dumps(config, indent=1) + "\n"
    if args.out is None:
        print(text, end="")
    else:
        part = args.out.with_name(args.out.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(args.out)
    return Exit.OK
