"""`chinwag migrate`: makes what a mesh's databases lack, Cassandra's keyspace and PostgreSQL's
tables. Run it once before the first node starts and after every upgrade; several at once are
safe."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from typing import Any

from chinwag_server.chat.store import StoreError, StoreRefused
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import load_settings
from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.sources import add_flags
from chinwag_server.engines import chat_url

MAX_REPLICAS = 9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replication",
        type=int,
        metavar="N",
        help="copies of everything in a new keyspace of Cassandra [rf= of the URL, or 3]",
    )
    parser.add_argument(
        "--datacenter",
        metavar="NAME",
        help="the data centre of these copies [dc= of the URL, or datacenter1]",
    )
    parser.add_argument("--json", action="store_true", help="for a script")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    settings = load_settings(args).settings
    if args.replication is not None and not 1 <= args.replication <= MAX_REPLICAS:
        raise CommandError(f"--replication is from 1 to {MAX_REPLICAS}", Exit.USAGE)
    if not settings.stores.accounts_url and not settings.stores.chat_url:
        raise CommandError(
            "stores.accounts_url and stores.chat_url are empty: there is nothing to migrate, a "
            "node brings its own SQLite up to date",
            Exit.USAGE,
        )
    # What its nodes do not let us do is in the error's text.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    try:
        done = asyncio.run(_migrate(settings, args.replication, args.datacenter))
    except ConfigError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except StoreRefused as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    except StoreError as error:
        raise CommandError(str(error), Exit.UNREACHABLE) from error
    print(json.dumps(done) if args.json else "\n".join(_lines(done)))
    return Exit.OK


async def _migrate(
    settings: Settings, replicas: int | None, datacenter: str | None
) -> dict[str, Any]:
    """What was done, by store."""
    stores = settings.stores
    done: dict[str, Any] = {}
    # Drivers are an extra of the package: each is imported only if its store is named.
    keyspace = chat_url(settings) if stores.chat_url else ""
    if stores.accounts_url:
        from chinwag_server.account.postgres import address, schema  # noqa: PLC0415
        from chinwag_server.account.postgres.migrate import migrate as accounts  # noqa: PLC0415

        found = await accounts(stores.accounts_url, cluster_id=stores.cluster_id)
        done["accounts"] = {
            "url": address.shown(stores.accounts_url),
            "from": found.from_version,
            "to": schema.SCHEMA_VERSION,
        }
    if keyspace:
        from chinwag_server.chat.cassandra.address import Address  # noqa: PLC0415
        from chinwag_server.chat.cassandra.migrate import migrate as chat  # noqa: PLC0415
        from chinwag_server.chat.sequenced.schema import ALL  # noqa: PLC0415

        statements = await chat(
            keyspace,
            ALL,
            cluster_id=stores.cluster_id,
            replicas=replicas,
            datacenter=datacenter,
        )
        done["chat"] = {"url": str(Address.parse(keyspace)), "statements": statements}
    return done


def _lines(done: dict[str, Any]) -> list[str]:
    lines = []
    if accounts := done.get("accounts"):
        before, after = accounts["from"], accounts["to"]
        what = "up to date" if before == after else f"from schema {before} to {after}"
        lines.append(f"accounts  {accounts['url']}: {what}")
    if chat := done.get("chat"):
        count = len(chat["statements"])
        what = f"{count} statements" if count else "up to date"
        lines += [f"chat      {chat['url']}: {what}", *(f"  {text}" for text in chat["statements"])]
    return lines
