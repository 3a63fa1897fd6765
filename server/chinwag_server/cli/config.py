"""`chinwag config`: what holds and where it comes from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from chinwag_server.cli.exits import Exit
from chinwag_server.cli.settings import load_settings
from chinwag_server.config.sources import add_flags, declared, hide, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a script")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    loaded = load_settings(args)
    rows = []
    for one in declared():
        owner = getattr(loaded.settings, one.section) if one.section else loaded.settings
        value = getattr(owner, one.name)
        shown = hide(value) if isinstance(value, str) else value
        rows.append((one.key, shown, loaded.origins[one.key]))
    if args.json:
        print(
            json.dumps(
                {
                    key: {"value": str(value) if isinstance(value, Path) else value, "from": origin}
                    for key, value, origin in rows
                },
                indent=1,
            )
        )
        return Exit.OK
    keys = max(len(key) for key, _, _ in rows)
    values = min(max(len(show(value)) for _, value, _ in rows), 40)
    for key, value, origin in rows:
        print(f"{key:<{keys}}  {show(value):<{values}}  {origin}")
    return Exit.OK
