"""`chinwag raise-epochs`: after etcd was restored from an older copy, or begun anew, has nodes own
channels again. It may be run while nodes run, and more than once."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging

from chinwag_server import engines
from chinwag_server.chat.sequenced.tables import TablesUnavailable
from chinwag_server.chat.store import StoreError, StoreRefused
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import load_settings
from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.sources import add_flags
from chinwag_server.mesh.coordination import CoordinationRefused, CoordinationUnavailable
from chinwag_server.mesh.membership import WrongCluster
from chinwag_server.mesh.raising import Raised, raise_epochs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for a script")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    settings = load_settings(args).settings
    if not settings.mesh.coordination_url:
        raise CommandError(
            "mesh.coordination_url is empty: only nodes of a mesh have epochs", Exit.USAGE
        )
    # What its nodes do not let us do is in the error's text.
    logging.getLogger("cassandra").setLevel(logging.CRITICAL)
    try:
        raised = asyncio.run(_raise(settings))
    except ConfigError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except (StoreRefused, CoordinationRefused, WrongCluster) as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    except (StoreError, CoordinationUnavailable, TablesUnavailable) as error:
        raise CommandError(f"{error}: it may be run again", Exit.UNREACHABLE) from error
    print(json.dumps(dataclasses.asdict(raised)) if args.json else _text(raised))
    return Exit.OK


async def _raise(settings: Settings) -> Raised:
    # Drivers are an extra of the package.
    from chinwag_server.chat.cassandra.tables import CassandraTables  # noqa: PLC0415
    from chinwag_server.chat.sequenced.schema import ALL  # noqa: PLC0415
    from chinwag_server.mesh.etcd import EtcdCoordination  # noqa: PLC0415

    cluster_id = settings.stores.cluster_id
    tables = CassandraTables(engines.chat_url(settings), ALL, cluster_id=cluster_id)
    coordination = EtcdCoordination(engines.etcd_client(settings))
    try:
        await tables.open()
        try:
            return await raise_epochs(coordination, tables.claim, cluster_id=cluster_id)
        finally:
            await tables.close()
    finally:
        await coordination.close()


def _text(raised: Raised) -> str:
    found = f"stored epochs go up to {raised.stored}, etcd is at revision {raised.revision}"
    if raised.after == raised.before:
        more = f", to which {raised.before} is added" if raised.before else ""
        return f"{found}{more}: nothing is refused, nothing was changed"
    return (
        f"{found}: {raised.after} is added to revisions from now on (before: {raised.before}), so "
        f"epochs begin at {raised.after + raised.revision + 1}; nodes own what they were refused "
        "within seconds"
    )
