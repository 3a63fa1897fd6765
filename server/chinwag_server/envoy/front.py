"""What a configuration is rendered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True, frozen=True)
class Address:
    """A host (an IP address, or a name where that is said) and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From "HOST:PORT" or "[HOST]:PORT".

        Raises:
            ValueError: It is neither.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or not host or int(port) > 65535:
            raise ValueError(f"expected HOST:PORT, got {text!r}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True, frozen=True)
class Tls:
    """A certificate chain and its key, PEM files that Envoy reads."""

    cert_file: Path
    key_file: Path


@dataclass(slots=True, frozen=True)
class Listen:
    """Where clients come in; without `tls` plain text, which is for loopback and tests."""

    address: Address
    tls: Tls | None = None


@dataclass(slots=True, frozen=True)
class Nodes:
    """Where the nodes are.

    Attributes:
        addresses: As they are; none with `xds`.
        xds: The control plane's address, which says where they are.
        ca_file: What the nodes' certificates are verified with; None: they speak plain text.
        name: What stands in these certificates.
    """

    addresses: tuple[Address, ...] = ()
    xds: Address | None = None
    ca_file: Path | None = None
    name: str = ""


@dataclass(slots=True, frozen=True)
class Bridge:
    """The settings of the WebSocket bridge (envoy/bridge/README.md)."""

    ping_interval_s: int = 30
    dead_after_s: int = 75
    max_message_bytes: int = 4 << 20
    drain_spread_s: int = 5


@dataclass(slots=True, frozen=True)
class File:
    """A file of the web page."""

    content_type: str
    body: bytes
    cacheable: bool = False


@dataclass(slots=True, frozen=True)
class Limits:
    """What a client address, and all of them, may cost.

    Attributes:
        requests_per_second, requests_burst: Of an address; 0: no limit.
        connections: Open ones from outside.
        upstream_requests: Calls and streams to the nodes at one time.
    """

    requests_per_second: int = 200
    requests_burst: int = 1000
    connections: int = 50_000
    upstream_requests: int = 100_000


@dataclass(slots=True, frozen=True)
class Front:
    """Everything that a configuration says.

    Attributes:
        jwks: Where the nodes publish the keys of access tokens, by HTTP; its host may be a name.
        issuer: `iss` and `aud` of these tokens.
        admin: The Unix socket of the admin interface.
        stats: Where Prometheus reads, and nothing else is served; None: nowhere.
        origins: Web origins besides the front's own that may call; "*": any.
        bridge: None: there is no bridge, and no WebSocket.
        page: The web page's files, by path.
        access_log: A file, "/dev/stdout", or "" for none.
        trusted_hops: Proxies before this one whose x-forwarded-for is believed.
        node_id: What the control plane is told.
    """

    listen: tuple[Listen, ...]
    nodes: Nodes
    jwks: Address
    admin: Path
    issuer: str = "chinwag"
    stats: Address | None = None
    origins: tuple[str, ...] = ()
    bridge: Bridge | None = None
    page: Mapping[str, File] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    access_log: str = "/dev/stdout"
    trusted_hops: int = 0
    node_id: str = "envoy"
