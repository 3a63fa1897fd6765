"""The declarations. A name's ending is its unit: _ms, _s, _bytes, _kib, _per_second."""
# ruff: noqa: RUF009 - `setting` makes a dataclasses.field, as the rule wants

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DAY_S = 86_400
LOOPBACK = ("127.0.0.0/8", "::1")


def setting(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str = "",
    networks: bool = False,
) -> Any:
    """A field of settings.

    Args:
        doc: One line for people.
        low, high: Bounds of a number, both allowed.
        flag: A short name of the flag beside the full one.
        networks: A list is one of addresses and networks.
    """
    return field(
        default=default,
        metadata={
            "doc": doc,
            "low": low,
            "high": high,
            "choices": choices,
            "flag": flag,
            "networks": networks,
        },
    )


@dataclass(slots=True, frozen=True)
class ListenSettings:
    """Where the gRPC server listens, and whom it believes."""

    host: str = setting(
        "127.0.0.1",
        "Address to bind. Any other than loopback needs TLS or `insecure`.",
        flag="host",
    )
    port: int = setting(
        7400, "Port of the gRPC server; 0: any that is free.", low=0, high=65535, flag="port"
    )
    wire: str = setting(
        "wire",
        "What speaks gRPC: chinwag's own server core (wire), or grpc.aio (grpcio), which is there "
        "to compare: it takes two to three times the CPU a delivery in a quiet group, and five "
        "times the memory an idle device.",
        choices=("wire", "grpcio"),
        flag="wire",
    )
    tls_cert_file: Path | None = setting(None, "Certificate chain in PEM form; turns TLS on.")
    tls_key_file: Path | None = setting(None, "The certificate's private key in PEM form.")
    tls_client_ca_file: Path | None = setting(
        None, "If given, clients must show a certificate signed by one of these."
    )
    insecure: bool = setting(
        False, "Serve plain text on an address that is not loopback.", flag="insecure"
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses and networks whose x-forwarded-for header names the client, and whose "
        "connections carry many people: one of them that breaks a rule costs itself alone.",
        networks=True,
    )
    keepalive_ms: int = setting(
        30_000, "A silent connection is asked for a sign of life so often.", low=1000
    )
    ping_timeout_ms: int = setting(
        10_000, "It is dropped if none comes for so long.", low=100, high=600_000
    )
    stall_ms: int = setting(
        30_000,
        "How long a client may read nothing while there is something for it.",
        low=1000,
        high=600_000,
    )
    age_ms: int = setting(
        0,
        "A connection is asked to go after that, give or take a tenth, so that clients spread anew "
        "over the nodes behind a balancer; what still runs then has 30 s. 0: never.",
        low=0,
        high=DAY_S * 1000,
    )
    connections: int = setting(
        50_000, "Connections at one time; more are closed at once.", low=1, high=10_000_000
    )
    connection_streams: int = setting(
        1000, "Calls and streams at one time on one connection.", low=1, high=1_000_000
    )


@dataclass(slots=True, frozen=True)
class HttpSettings:
    """The HTTP port for operators: /metrics, /healthz, /.well-known/jwks.json."""

    enabled: bool = setting(True, "Whether there is one.")
    host: str = setting("127.0.0.1", "Address to bind. What it shows is no secret, but not public.")
    port: int = setting(
        0, "Its port; 0: any that is free, printed at the start.", low=0, high=65535
    )


@dataclass(slots=True, frozen=True)
class EnvoySettings:
    """Envoy before the nodes: what `chinwag run` starts, and `chinwag envoy config` prints."""

    host: str = setting("127.0.0.1", "Address to bind.")
    port: int = setting(
        8443,
        "Port for everything, by TLS: gRPC, gRPC-Web, JSON, WebSocket and the web page.",
        low=0,
        high=65535,
    )
    plain_port: int = setting(
        8080,
        "`chinwag run` serves the same in plain text on this port of 127.0.0.1, where browsers "
        "need no certificate; 0: it does not.",
        low=0,
        high=65535,
    )
    tls_cert_file: Path | None = setting(
        None, "Certificate chain in PEM form; without one `chinwag run` makes one of its own."
    )
    tls_key_file: Path | None = setting(None, "The certificate's private key in PEM form.")
    origins: tuple[str, ...] = setting(
        (), "Web origins besides this one's own whose pages may call, such as https://a.example."
    )
    nodes: tuple[str, ...] = setting((), "The nodes, each HOST:PORT with an IP address.")
    xds_address: str | None = setting(
        None, "HOST:PORT of `chinwag xds`, which says where the nodes are; instead of `nodes`."
    )
    jwks_address: str = setting(
        "127.0.0.1:7401", "HOST:PORT of the HTTP port of a node, or of all: there the keys are."
    )
    node_ca_file: Path | None = setting(
        None, "What the nodes' certificates are verified with; without it they speak plain text."
    )
    node_name: str = setting("", "The name in the nodes' certificates.")
    bridge: bool = setting(True, "Whether the WebSocket bridge is loaded.")
    page_dir: Path | None = setting(
        None, "The folder of the built web page; without one the page of this package."
    )
    admin_socket: Path | None = setting(
        None, "The Unix socket of Envoy's admin interface; without one in the data directory."
    )
    stats_address: str | None = setting(
        None, "HOST:PORT at which Prometheus reads /metrics of Envoy."
    )
    requests_per_second: int = setting(
        200, "Requests of one client address; 0: no limit.", low=0, high=1_000_000
    )
    requests_burst: int = setting(1000, "The same at once, after a pause.", low=1, high=10_000_000)
    connections: int = setting(50_000, "Connections at one time.", low=1, high=10_000_000)
    trusted_hops: int = setting(
        0, "Proxies before Envoy whose x-forwarded-for header is believed.", low=0, high=16
    )
    access_log: str = setting("/dev/stdout", "File of the access log, in JSON; empty: none.")
    workers: int = setting(1, "Threads for connections in `chinwag run`.", low=1, high=1024)


@dataclass(slots=True, frozen=True)
class XdsSettings:
    """`chinwag xds`: discovery for Envoy and for gRPC clients without a proxy."""

    host: str = setting("127.0.0.1", "Address to bind.")
    port: int = setting(7410, "Its port; 0: any that is free.", low=0, high=65535)
    insecure: bool = setting(
        False, "Serve on an address that is not loopback: it speaks plain text."
    )


@dataclass(slots=True, frozen=True)
class LimitSettings:
    """What one message, channel, user or address may cost. A rate of 0 is no limit."""

    text_length: int = setting(100_000, "Code points in a message's text.", low=1, high=100_000)
    group_members: int = setting(100, "Members of a group.", low=2, high=1000)
    reactions: int = setting(50, "Different reactions to a message.", low=1, high=1000)
    user_channels: int = setting(5000, "Channels in which a user may be.", low=1, high=1_000_000)
    user_streams: int = setting(
        20, "Open streams of a user, and waiting Syncs.", low=1, high=10_000
    )
    user_devices: int = setting(50, "Devices (sessions) of a user.", low=1, high=10_000)
    user_relations: int = setting(
        5000, "Friends, friend requests and blocks of a user, each.", low=1, high=1_000_000
    )
    api_keys: int = setting(1000, "API keys of the deployment.", low=1, high=1_000_000)

    message_bytes: int = setting(4 << 20, "One request of a call.", low=1 << 16, high=64 << 20)
    frame_bytes: int = setting(4 << 20, "One frame of a stream.", low=1 << 16, high=16 << 20)
    metadata_bytes: int = setting(
        16 << 10,
        "Metadata (headers) of a call, names, values and 32 for each.",
        low=2048,
        high=1 << 20,
    )
    frame_sends: int = setting(100, "Sends in one frame.", low=1, high=100)
    bad_frames: int = setting(1000, "Refused frames after which a stream is closed.", low=1)

    user_calls_per_second: float = setting(200, "Calls of a user.", low=0)
    user_calls_burst: int = setting(1000, "The same at once, after a pause.", low=1)
    user_frames_per_second: float = setting(100, "Frames from a user's streams.", low=0)
    user_frames_burst: int = setting(500, "The same at once, after a pause.", low=1)
    user_sends_per_second: float = setting(50, "Messages that a user sends.", low=0)
    user_sends_burst: int = setting(500, "The same at once, after a pause.", low=1)
    address_calls_per_second: float = setting(1000, "Calls from an address.", low=0)
    address_calls_burst: int = setting(5000, "The same at once, after a pause.", low=1)
    address_frames_per_second: float = setting(1000, "Frames from an address.", low=0)
    address_frames_burst: int = setting(5000, "The same at once, after a pause.", low=1)
    address_sends_per_second: float = setting(500, "Messages sent from an address.", low=0)
    address_sends_burst: int = setting(5000, "The same at once, after a pause.", low=1)
    anonymous_calls_per_second: float = setting(
        5, "Calls without a token (sign-up, login, token refresh) from an address.", low=0
    )
    anonymous_calls_burst: int = setting(50, "The same at once, after a pause.", low=1)
    stream_opens_per_second: float | None = setting(
        None,
        "Device streams that a node opens; others are told when to come back, each in its turn. "
        "Empty: 300 in a mesh, where the devices of a node that dies come to those that are left, "
        "and no limit for a node that is alone.",
        low=0,
    )
    stream_opens_burst: int = setting(300, "The same at once, after a pause.", low=1)
    exempt_addresses: tuple[str, ...] = setting(
        LOOPBACK, "Addresses and networks that have no limit by address.", networks=True
    )
    rate_keys: int = setting(
        100_000, "Users, and addresses, whose rates are remembered, each.", low=100
    )

    queue_events: int = setting(20_000, "Pieces waiting for a slow stream.", low=100)
    queue_bytes: int = setting(8 << 20, "The same in bytes.", low=1 << 20)
    backlog_bytes: int = setting(
        64 << 20, "Bytes waiting for the store; above it, sends are refused.", low=1 << 20
    )
    members_in_memory: int = setting(
        200_000, "Members of loaded channels; above it, quiet channels are unloaded.", low=1000
    )
    running_calls: int = setting(10_000, "Unary calls at one time.", low=10)
    running_streams: int = setting(100_000, "Streams at one time.", low=10)


@dataclass(slots=True, frozen=True)
class DeadlineSettings:
    """How long things may take."""

    unary_ms: int = setting(
        75_000, "A unary call; a client's shorter deadline holds. Sync waits up to 60 s.", low=1000
    )
    hello_ms: int = setting(10_000, "Until a stream's hello.", low=100)
    idle_ms: int = setting(120_000, "Silence after which a stream is closed.", low=1000)
    ping_interval_ms: int = setting(
        30_000, "Told to clients: how often a quiet device pings.", low=1000
    )
    drain_ms: int = setting(15_000, "From SIGTERM to the end, at most.", low=0, high=600_000)


@dataclass(slots=True, frozen=True)
class AccountSettings:
    """People, passwords and tokens."""

    open_signup: bool = setting(True, "Whether anybody may make an account.")
    deletion_redacts: bool = setting(
        True, "Whether deleting an account deletes what its messages say."
    )
    issuer: str = setting("chinwag", "`iss` and `aud` of access tokens.")
    access_token_s: int = setting(900, "Life of an access token.", low=60, high=DAY_S)
    refresh_token_s: int = setting(
        90 * DAY_S, "Life of a refresh token, and so of a session.", low=60
    )
    refresh_grace_s: int = setting(
        60, "How long a used refresh token gives the same new pair again.", low=0, high=3600
    )
    signing_key_days: int = setting(
        90, "How long a key signs access tokens before a new one does.", low=1, high=3650
    )
    verified_tokens: int = setting(
        100_000, "Verified access tokens that are remembered.", low=100, high=10_000_000
    )
    argon2_memory_kib: int = setting(
        19_456, "Memory to hash a password (argon2id).", low=8, high=4 << 20
    )
    argon2_passes: int = setting(2, "Passes over it.", low=1, high=100)
    argon2_lanes: int = setting(1, "Threads for one password.", low=1, high=64)
    argon2_concurrency: int = setting(2, "Passwords hashed at one time.", low=1, high=64)
    argon2_queue: int = setting(
        100, "Passwords waiting for that; above it, logins are refused.", low=1
    )
    login_failures: int = setting(
        10, "Failed logins of a username, and of an address, before it has to wait.", low=1
    )
    login_window_s: int = setting(900, "How long a failed login counts.", low=1)
    event_days: int = setting(30, "How long account events are kept.", low=1)
    event_count: int = setting(10_000, "How many of them are kept for a user.", low=100)


@dataclass(slots=True, frozen=True)
class StoreSettings:
    """Where the stores are; without a URL in the data directory, on SQLite. What is special in a
    user or password of a URL is written in percent: `%40` for `@`."""

    cluster_id: str = setting(
        "", "Name of this installation: a database that belongs to another one is refused."
    )
    accounts_url: str = setting(
        "", "Accounts in PostgreSQL: postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
    )
    accounts_replica_url: str = setting(
        "", "A streaming replica of it, for lists that may be a moment old."
    )
    accounts_connections: int = setting(
        10, "Connections to each of these servers.", low=1, high=1000
    )
    chat_url: str = setting(
        "",
        "Chat in Cassandra, of a mesh: "
        "cassandra://USER:PASSWORD@HOST:PORT,HOST:PORT/KEYSPACE?dc=DATACENTER.",
    )


@dataclass(slots=True, frozen=True)
class MeshSettings:
    """Many nodes that are one server. Without `coordination_url` a node is alone; with it the node
    also needs `redis_url`, `stores.chat_url`, `stores.accounts_url` and `stores.cluster_id`."""

    coordination_url: str = setting(
        "",
        "Who there is and who owns what, in etcd: etcd://USER:PASSWORD@HOST:PORT,HOST:PORT, or "
        "etcds:// with TLS.",
    )
    redis_url: str = setting(
        "",
        "What nodes tell each other, and who is connected where, in Redis: "
        "redis://USER:PASSWORD@HOST:PORT,HOST:PORT, or rediss:// with TLS.",
    )
    coordination_ca_file: Path | None = setting(
        None, "What vouches for etcd's certificates, in PEM form, if not what this machine trusts."
    )
    redis_ca_file: Path | None = setting(None, "The same of Redis.")
    chat_ca_file: Path | None = setting(None, "The same of Cassandra; turns TLS to it on.")
    host: str = setting(
        "127.0.0.1",
        "Address to bind for the other nodes. Any other than loopback needs TLS.",
    )
    port: int = setting(7480, "Its port, for nodes alone; 0: any that is free.", low=0, high=65535)
    advertise: str = setting(
        "", "HOST or HOST:PORT at which the other nodes reach it, if not as it is bound."
    )
    tls_cert_file: Path | None = setting(
        None,
        "Certificate chain in PEM form that the node shows to others, as a server and as a client.",
    )
    tls_key_file: Path | None = setting(None, "The certificate's private key in PEM form.")
    tls_ca_file: Path | None = setting(
        None, "What signs the nodes' certificates, and nothing else, in PEM form."
    )
    tls_name: str = setting(
        "", "The name in the other nodes' certificates, if not the host at which they are reached."
    )
    zone: str = setting("", "What fails together with this node, such as a name of a data centre.")
    capacity: float = setting(
        1.0, "Its share of the channels, against that of others.", low=0.01, high=1000
    )
    lease_s: int = setting(
        10,
        "How long after the last sign of life a node counts as dead, and others take its channels.",
        low=5,
        high=120,
    )
    direct_members: int = setting(
        20,
        "Events of a channel with so many members at most go straight to the nodes that hold their "
        "devices. 0: never.",
        low=0,
        high=1_000_000_000,
    )
    pubsub_members: int = setting(
        1000,
        "Those of one with so many at most go over Redis to all nodes that hold members; of a "
        "larger one only devices that look at it get them. 0: never.",
        low=0,
        high=1_000_000_000,
    )
    feed: bool = setting(
        True,
        "Keep what StreamEvents reads: a tenth more work for each send. The same on all nodes; "
        "what is sent while it is off never comes in a feed.",
    )


@dataclass(slots=True, frozen=True)
class LogSettings:
    """Logs, on the standard error stream."""

    level: str = setting(
        "info", "The least that is logged.", choices=("debug", "info", "warning", "error")
    )
    format: str = setting(
        "auto", "auto: for people on a terminal, otherwise json.", choices=("auto", "json", "human")
    )


def _section(kind: Callable[[], Any]) -> Any:
    return field(default_factory=kind)


@dataclass(slots=True, frozen=True)
class Settings:
    """All settings of a node."""

    data_dir: Path = setting(
        Path(".chinwag"), "Directory of the node's stores; one node at a time.", flag="data"
    )
    listen: ListenSettings = _section(ListenSettings)
    http: HttpSettings = _section(HttpSettings)
    envoy: EnvoySettings = _section(EnvoySettings)
    xds: XdsSettings = _section(XdsSettings)
    limits: LimitSettings = _section(LimitSettings)
    deadlines: DeadlineSettings = _section(DeadlineSettings)
    account: AccountSettings = _section(AccountSettings)
    stores: StoreSettings = _section(StoreSettings)
    mesh: MeshSettings = _section(MeshSettings)
    log: LogSettings = _section(LogSettings)
