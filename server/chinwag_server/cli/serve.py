"""`chinwag serve`: a node in this process, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from chinwag_server import __version__
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import load_settings
from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.sources import add_flags
from chinwag_server.observe.logs import describe, log_loop_error, setup_logs

if TYPE_CHECKING:
    from chinwag_server.node import Node

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# A thread that writes to a store needs the interpreter some fifteen times a commit, and waits for
# so long each time if the loop is busy. CPython's own 5 ms would make that a tenth of a second.
SWITCH_S = 0.0005


class Front(Protocol):
    """What the same command starts before a node."""

    async def start(self, node: Node) -> Mapping[str, str]:
        """Starts it before a node that serves; gives the addresses to print, by what they are."""

    async def stop(self) -> None:
        """Ends it. The node has drained."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print where it listens as one line of JSON"
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    return run_node(args, lambda settings: (settings, None))


def run_node(
    args: argparse.Namespace, before: Callable[[Settings], tuple[Settings, Front | None]]
) -> int:
    """Runs a node until a signal, with what is to stand before it.

    Args:
        before: Gives that, and the settings with which the node knows of it.
    """
    settings, front = before(load_settings(args).settings)
    setup_logs(settings.log.level, settings.log.format)
    _prepare_grpc(os.environ)
    return _run_loop(_serve(settings, front, as_json=args.json))


def _prepare_grpc(environment: Any) -> None:
    """What grpc reads when it is first imported."""
    experiments = [environment.get("GRPC_EXPERIMENTS", ""), "-event_engine_listener"]
    environment["GRPC_EXPERIMENTS"] = ",".join(filter(None, experiments))
    # It writes lines of its own about what we say better, such as a port in use.
    environment.setdefault("GRPC_VERBOSITY", "NONE")


def _run_loop(work: Coroutine[Any, Any, int]) -> int:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop  # noqa: PLC0415 - not there on Windows
    except ImportError:
        log.info("uvloop is not installed: this is asyncio's own loop, and slower")
    else:
        factory = uvloop.new_event_loop
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def _serve(settings: Settings, front: Front | None, *, as_json: bool) -> int:
    # Imports grpc, which must come after `_prepare_grpc`.
    from chinwag_server.chat.store import StoreError  # noqa: PLC0415
    from chinwag_server.datadir import DataDirError  # noqa: PLC0415
    from chinwag_server.mesh.membership import WrongCluster  # noqa: PLC0415
    from chinwag_server.mesh_engines import EngineRefused  # noqa: PLC0415
    from chinwag_server.node import Node  # noqa: PLC0415
    from chinwag_server.rpc.listening import ListenError  # noqa: PLC0415

    asyncio.get_running_loop().set_exception_handler(log_loop_error)
    node = Node(settings)
    stop = _stop_on_signal()
    try:
        if not await _started(node, stop):
            # A driver may still wait on a thread for an engine: nobody waits for that.
            log.info("stopped before it served")
            _exit_now(Exit.OK)
    except (EngineRefused, WrongCluster) as error:
        raise CommandError(str(error), Exit.REFUSED) from error
    except (ConfigError, DataDirError, ListenError, StoreError) as error:
        raise CommandError(str(error)) from error
    _tame_garbage_collector()
    try:
        before = await front.start(node) if front is not None else {}
    except BaseException:
        await node.stop()
        raise
    print(_json(node, before) if as_json else _welcome(node, before), flush=True)
    log.info("serving on port %d", node.port)
    await stop.wait()
    log.info("draining")
    try:
        async with asyncio.timeout(settings.deadlines.drain_ms / 1000):
            await node.stop()
    except TimeoutError as error:
        # What was acked is durable; what was not, its sender sends again.
        log.error("did not end in time: %s", describe(error))
        _exit_now(Exit.FAILED)
    if front is not None:
        await front.stop()
    log.info("stopped")
    return Exit.OK


async def _started(node: Node, stop: asyncio.Event) -> bool:
    """Starts a node, which may wait for its engines; False: a signal came first."""
    starting = asyncio.ensure_future(node.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return False
    starting.result()
    return True


def _tame_garbage_collector() -> None:
    """Keeps full collections away from the way of a message.

    What the start has made (modules, descriptors, classes) stays for ever and is left out of
    collections; these come less often. With the defaults a group at 100 messages a second had one
    of 20 ms nearly every second, which was its p99.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _stop_on_signal() -> asyncio.Event:
    """An event that the first signal sets; the second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            _exit_now(Exit.INTERRUPTED)
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal)
    return stop


def _exit_now(code: Exit) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _target(settings: Settings, port: int) -> str:
    host = settings.listen.host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _json(node: Node, before: Mapping[str, str]) -> str:
    return json.dumps(
        {
            "target": _target(node.settings, node.port),
            "port": node.port,
            "http_port": node.http_port,
            "pid": os.getpid(),
            "data_dir": str(node.settings.data_dir),
            **before,
        }
    )


def _welcome(node: Node, before: Mapping[str, str]) -> str:
    settings = node.settings
    target = _target(settings, node.port)
    tls = "TLS" if settings.listen.tls_cert_file else "plain text"
    lines = [
        f"chinwag {__version__} serves on {target} ({tls}); its data is in {settings.data_dir}",
        "",
        *(f"  {name:<8} {address}" for name, address in before.items()),
        f"  join     chinwag signup NAME --server {target}     then: chinwag chat",
    ]
    if node.http_port:
        http = f"http://{settings.http.host}:{node.http_port}"
        lines.append(f"  observe  {http}/metrics  {http}/healthz")
    lines += ["  stop     Ctrl-C (drains; a second one stops at once)", ""]
    return "\n".join(lines)
