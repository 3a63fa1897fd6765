"""`make mesh`: a mesh on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from tools.engines.process import EngineError
from tools.mesh import Mesh, temporary_folder

RESTART_PAUSE_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130


def main() -> int:
    """Runs until a signal; the exit code."""
    args = _arguments()
    # Settings of this shell hold for all nodes.
    settings = {name: text for name, text in os.environ.items() if name.startswith("CHINWAG_")}
    with temporary_folder() as folder:
        print(f"starting etcd, Redis, PostgreSQL, Cassandra and {args.nodes} nodes in {folder}")
        mesh = Mesh(
            folder,
            nodes=args.nodes,
            settings=settings,
            cassandra_nodes=args.cassandra,
            etcd_members=args.etcd,
            small=args.small,
        )
        return asyncio.run(_run(mesh, restart=args.restart))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make mesh MESH_ARGS=...",
        description="Starts a mesh on this machine; CHINWAG_... variables hold for all nodes.",
    )
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="chinwag nodes [3]")
    for engine in ("etcd", "cassandra"):
        parser.add_argument(
            f"--{engine}", type=int, choices=(1, 3), default=1, help=f"members of {engine} [1]"
        )
    parser.add_argument("--small", action="store_true", help="little memory for Cassandra")
    parser.add_argument("--restart", action="store_true", help="start a node again that dies")
    args = parser.parse_args()
    if not 1 <= args.nodes <= 20:
        parser.error("--nodes is from 1 to 20")
    return args


async def _run(mesh: Mesh, *, restart: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            # The second one: at once.
            print("killing all", flush=True)
            mesh.kill_now()
        else:
            print("stopping; once more kills all", flush=True)
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        if await _until(stop, mesh.start()):
            print(await _welcome(mesh), flush=True)
            await _until(stop, mesh.watch(lambda name, log: _died(mesh, name, log, restart)))
    except (EngineError, RuntimeError) as error:
        print(f"the mesh does not start: {error}", file=sys.stderr)
        return 1
    finally:
        await mesh.stop()
    print("stopped")
    return 0


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work ended before the signal to stop; it is broken off by that."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError, EngineError):
        await working
    return False


async def _died(mesh: Mesh, name: str, log: str, restart: bool) -> None:
    print(f"{name} ended; the end of its log:\n{log}", file=sys.stderr, flush=True)
    for number, node in enumerate(mesh.nodes):
        if restart and node.name == name:
            await asyncio.sleep(RESTART_PAUSE_S)
            try:
                await mesh.restart_node(number)
            except EngineError as error:
                print(f"{name} does not start again: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{name} serves again on {node.target}", flush=True)


async def _welcome(mesh: Mesh) -> str:
    engines = mesh.engines
    key = await mesh.create_api_key()
    a_node, targets = mesh.targets[0], ",".join(mesh.targets)
    lines = [
        f"  etcd        {', '.join(member.endpoint for member in engines.etcd)}",
        f"  Redis       127.0.0.1:{engines.redis.port}",
        f"  PostgreSQL  127.0.0.1:{engines.postgres.port}",
        f"  Cassandra   {', '.join(f'{n.address}:{n.port}' for n in engines.cassandra.nodes)}",
        *(f"  node {node.name}     {node.target}, log in {node.log}" for node in mesh.nodes),
        "",
        f"  join    chinwag signup NAME --server {a_node}     then: chinwag chat",
        f"  replay  chinwag replay FILES --devices 2 --server {targets} --api-key {key}",
        "  stop    Ctrl-C",
        "",
        f"ready {' '.join(mesh.targets)}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
