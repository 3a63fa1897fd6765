"""`chinwag apikey create`: the first API key of a team's backend, made beside the store.

It works with the node running or not: the key is one row, written to the account store in a
transaction of its own, and a node looks up a key that it has not seen. Later keys can also be made
by AccountService.CreateApiKey. The store is the data directory's, or the PostgreSQL that the
setting stores.accounts_url names.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import time
from collections.abc import Sequence
from typing import Any

from chinwag_server.chat.store import StoreError, StoreUnavailable
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import add_data, load_settings
from chinwag_server.cli.stores import local_errors
from chinwag_server.config import Settings

# create_api_key(directory, name, scopes, expire_time_us) -> (id, secret)
MAKER = "chinwag_server.account.bootstrap"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key and print its secret, this one time")
    create.add_argument("--name", default="cli", help="what it is for [cli]")
    create.add_argument(
        "--scopes",
        required=True,
        metavar="A,B",
        help="what it may do, such as messages:write,users:read; or all",
    )
    create.add_argument("--days", type=int, default=0, metavar="N", help="its life; 0: no end [0]")
    create.add_argument("--json", action="store_true", help="for a script")
    add_data(create)


def run(args: argparse.Namespace) -> int:
    known = known_scopes()
    scopes = known if args.scopes == "all" else [s for s in args.scopes.split(",") if s]
    unknown = [scope for scope in scopes if scope not in known]
    if unknown or not scopes:
        raise CommandError(
            f"there is no scope {', '.join(unknown) or '(none was given)'}: there are "
            f"{', '.join(known)}",
            Exit.USAGE,
        )
    end_us = time.time_ns() // 1000 + args.days * 86_400_000_000 if args.days else 0
    settings = load_settings().settings if args.data is None else None
    if settings is not None and settings.stores.accounts_url:
        key_id, secret = asyncio.run(_create_shared(settings, args.name, scopes, end_us))
    else:
        maker: Any = importlib.import_module(MAKER)
        directory = settings.data_dir if settings is not None else args.data
        with local_errors():
            key_id, secret = maker.create_api_key(directory, args.name, scopes, end_us)
    if args.json:
        print(json.dumps({"id": key_id, "secret": secret, "scopes": scopes}))
    else:
        print(secret)
    return Exit.OK


async def _create_shared(
    settings: Settings, name: str, scopes: Sequence[str], end_us: int
) -> tuple[str, str]:
    """In PostgreSQL; its driver is an extra of the package."""
    from chinwag_server.account.bootstrap import create_shared_api_key  # noqa: PLC0415
    from chinwag_server.account.postgres import PostgresAccountStore  # noqa: PLC0415

    stores = settings.stores
    store = PostgresAccountStore(stores.accounts_url, cluster_id=stores.cluster_id)
    try:
        await store.open()
        try:
            return await create_shared_api_key(store, name, scopes, end_us)
        finally:
            await store.close()
    except (StoreError, StoreUnavailable) as error:
        raise CommandError(str(error), Exit.UNREACHABLE) from error


def known_scopes() -> list[str]:
    """All scopes that a method of the contract asks for."""
    from chinwag.account.v1 import account_service_pb2  # noqa: PLC0415 - `--help` is fast
    from chinwag.chat.v1 import chat_service_pb2  # noqa: PLC0415
    from chinwag.presence.v1 import presence_service_pb2  # noqa: PLC0415
    from chinwag.push.v1 import push_service_pb2  # noqa: PLC0415
    from chinwag_server.rpc.registry import access_of  # noqa: PLC0415

    files = (account_service_pb2, chat_service_pb2, presence_service_pb2, push_service_pb2)
    return sorted(
        {
            scope
            for file in files
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
            if (scope := access_of(method).scope)
        }
    )
