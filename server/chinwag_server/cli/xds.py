"""`chinwag xds`: tells Envoy and gRPC clients where the nodes are, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from contextlib import AsyncExitStack

from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import load_settings
from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.sources import add_flags
from chinwag_server.envoy.front import Address
from chinwag_server.observe.logs import setup_logs
from chinwag_server.rpc.listening import is_loopback

log = logging.getLogger(__name__)

STOP_S = 2.0
# A client that is silent is asked for a sign of life, as it asks us.
KEEPALIVE_MS = 30_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print where it listens as JSON")
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    settings = load_settings(args).settings
    setup_logs(settings.log.level, settings.log.format)
    xds = settings.xds
    if not is_loopback(xds.host) and not xds.insecure:
        raise CommandError(
            f"xds.host {xds.host}: it would serve in plain text beyond this machine; say "
            "xds.insecure true if only nodes and proxies can reach it",
            Exit.USAGE,
        )
    if not settings.mesh.coordination_url and not settings.envoy.nodes:
        raise CommandError(
            "mesh.coordination_url or envoy.nodes: say where the nodes are", Exit.USAGE
        )
    try:
        return asyncio.run(_serve(settings, as_json=args.json))
    except (ConfigError, OSError, ValueError) as error:
        raise CommandError(str(error)) from error


async def _serve(settings: Settings, *, as_json: bool) -> int:
    # The rest of the program imports no grpc before it is known that it is needed.
    import grpc  # noqa: PLC0415

    from chinwag_server.xds.resources import Endpoint  # noqa: PLC0415
    from chinwag_server.xds.streams import Discovery  # noqa: PLC0415

    discovery = Discovery()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if settings.mesh.coordination_url:
            await _follow(settings, discovery, stack)
        else:
            addresses = [Address.parse(text) for text in settings.envoy.nodes]
            discovery.publish([Endpoint(address.host, address.port) for address in addresses])
        options = [("grpc.keepalive_time_ms", KEEPALIVE_MS), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((discovery.handler(),))
        address = Address(settings.xds.host, settings.xds.port)
        try:
            port = server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} (xds.host, xds.port): {error}") from error
        await server.start()
        shown = str(Address(settings.xds.host, port))
        print(json.dumps({"target": shown}) if as_json else f"serves on {shown}", flush=True)
        await stop.wait()
        await server.stop(STOP_S)
    return Exit.OK


async def _follow(settings: Settings, discovery: object, stack: AsyncExitStack) -> None:
    from chinwag_server import engines  # noqa: PLC0415
    from chinwag_server.mesh.etcd import EtcdCoordination  # noqa: PLC0415
    from chinwag_server.xds.sources import FromNodes  # noqa: PLC0415
    from chinwag_server.xds.streams import Discovery  # noqa: PLC0415

    assert isinstance(discovery, Discovery)
    coordination = EtcdCoordination(engines.etcd_client(settings))
    stack.push_async_callback(coordination.close)
    source = FromNodes(coordination, discovery.publish)
    source.start()
    stack.push_async_callback(source.stop)
