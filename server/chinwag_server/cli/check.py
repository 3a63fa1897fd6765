"""`chinwag check`: reads all of the stores and names everything in them that cannot be."""

from __future__ import annotations

import argparse
import json

from chinwag_server.cli.exits import Exit
from chinwag_server.cli.settings import add_data, data_dir
from chinwag_server.cli.stores import STORES, bars, local_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a script; no progress bar")
    add_data(parser)


def run(args: argparse.Namespace) -> int:
    directory = data_dir(args)
    with local_errors(), bars(quiet=args.json) as bar:
        found = [
            (store.name, str(violation))
            for store in STORES
            for violation in store.check(directory, bar(store.name))
        ]
    if args.json:
        violations = [{"store": store, "violation": text} for store, text in found]
        print(json.dumps({"ok": not found, "violations": violations}))
    else:
        for store, text in found:
            print(f"{store}: {text}")
        print(f"{len(found)} violations" if found else "sound")
    return Exit.FAILED if found else Exit.OK
