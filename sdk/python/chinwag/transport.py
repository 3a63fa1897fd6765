"""Opening gRPC channels: options, TLS, and no token over the open network in the clear."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from chinwag.errors import InsecureAddress

# Measured (docs: client habits): a bandwidth probe is a PING for every burst of DATA and doubles
# what a delivery costs the server; keepalive alone took over 60 s to notice a frozen peer until
# the ping timeout was set too.
Options = tuple[tuple[str, int], ...]
OPTIONS: Options = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.max_send_message_length", 8 << 20),
    # Attempts are paced by the SDK (`backoff`); grpc's own waits come on top of that.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name, how long one attempt to connect may take, TLS and all (measured). In
    # a storm of reconnects a busy node needs its time; one that says nothing costs so much.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A connection of its own, not one that all channels of the process share.
    ("grpc.use_local_subchannel_pool", 1),
)


Tls = bool | str | Path | None


@dataclass(frozen=True, slots=True)
class Security:
    """How connections are secured.

    Attributes:
        tls: True: TLS with the system's authorities; a path: with those in that file; False: none;
            None: TLS for every address but loopback ones.
        insecure: Allows plain text to any address.
    """

    tls: Tls = None
    insecure: bool = False

    def credentials(self, address: str) -> grpc.ChannelCredentials | None:
        """What to open a channel to an address with; None: plain text.

        Raises:
            InsecureAddress: Plain text was asked for, and the address is not loopback.
        """
        loopback = is_loopback(address)
        if self.tls is None:
            # `insecure` says that the network is trusted: so plain text is wanted.
            if loopback or self.insecure:
                return None
        elif self.tls is False:
            if loopback or self.insecure:
                return None
            raise InsecureAddress(
                f"{address} is not loopback, and a token must not cross a network in the clear: "
                "pass tls=True, or insecure=True if the network is trusted"
            )
        roots = None
        if isinstance(self.tls, str | Path):
            roots = Path(self.tls).read_bytes()
        return grpc.ssl_channel_credentials(root_certificates=roots)


def is_loopback(address: str) -> bool:
    """Whether "host:port" stays on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0] if ":" in address else address
    host = host.removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_channel(address: str, security: Security, options: Options = ()) -> aio.Channel:
    """A grpc.aio channel with a connection of its own; connects when it is first used.

    Args:
        address: "host:port". `routes` has a channel over several.
        security: TLS or not.
        options: Of gRPC; they win over `OPTIONS`.

    Raises:
        InsecureAddress: See `Security.credentials`.
    """
    credentials = security.credentials(address)
    merged = tuple({**dict(OPTIONS), **dict(options)}.items())
    if credentials is None:
        return aio.insecure_channel(address, options=merged)
    return aio.secure_channel(address, credentials, options=merged)


def open_blocking_channel(address: str, security: Security) -> grpc.Channel:
    """The same without asyncio."""
    credentials = security.credentials(address)
    if credentials is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, credentials, options=OPTIONS)
