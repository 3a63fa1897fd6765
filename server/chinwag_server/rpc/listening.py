"""Where a server listens, and what it refuses to do there; the same for every adapter."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# What still runs on a connection that was asked to go for its age is ended after that.
AGE_GRACE_MS = 30_000


class ListenError(Exception):
    """The server cannot listen as it was told: the text says what to do."""


class RpcServer(Protocol):
    """A server of a registry through the middleware: what a node needs of an adapter.

    Attributes:
        port: The bound port, after `start`.
    """

    port: int

    async def start(self) -> None:
        """Binds the port and serves.

        Raises:
            ListenError: The address may not be used, or the port is taken.
        """

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, waits for running ones, at most so long, and ends the others."""


@dataclass(slots=True, frozen=True)
class Tls:
    """Files in PEM form.

    Attributes:
        client_ca_file: If given, clients must show a certificate signed by it.
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None

    def check(self) -> None:
        """Looks into the files.

        Raises:
            ListenError: One cannot be read, or is not what it should be.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert_file, self.key_file)
            if self.client_ca_file:
                context.load_verify_locations(self.client_ca_file)
        except ssl.SSLError as error:
            raise ListenError(
                "a TLS file is no PEM, or certificate and key do not belong together: "
                f"{error.reason or error}"
            ) from error
        except OSError as error:
            raise ListenError(f"a TLS file cannot be read: {error}") from error


@dataclass(slots=True, frozen=True)
class ListenOptions:
    """What the server is told.

    Attributes:
        insecure: Plain text may be served on addresses that are not loopback.
        connections, connection_streams: At one time; streams of one connection.
        keepalive_ms: A silent connection is asked for a sign of life so often;
            ping_timeout_ms: and dropped if none comes for so long.
        stall_ms: How long a client may read nothing while there is something for it.
        age_ms: A connection is asked to go after that, give or take a tenth; 0: never.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None
    insecure: bool = False
    trusted_proxies: tuple[str, ...] = ()
    message_bytes: int = 4 << 20
    metadata_bytes: int = 16 << 10
    connections: int = 50_000
    connection_streams: int = 1000
    keepalive_ms: int = 30_000
    ping_timeout_ms: int = 10_000
    stall_ms: int = 30_000
    age_ms: int = 0

    @property
    def address(self) -> str:
        """Host and port, as they are written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def check(self) -> None:
        """Refuses what must not be served.

        Raises:
            ListenError: Plain text for the world, or TLS files that are none.
        """
        if self.tls is not None:
            self.tls.check()
        elif not is_loopback(self.host) and not self.insecure:
            raise ListenError(
                f"refusing to serve plain text on {self.host}: give a TLS certificate and "
                "key, bind to 127.0.0.1, or say --insecure if something in front ends TLS"
            )

    def in_use(self) -> ListenError:
        """The error for an address that cannot be bound."""
        return ListenError(
            f"cannot listen on {self.address}: the port is in use, or the address is not this "
            "machine's; choose another one (--port 0: any that is free)"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; names other than localhost are not looked
    up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
