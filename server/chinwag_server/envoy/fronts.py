"""From settings to what Envoy's configuration says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chinwag_server.config import ConfigError, Settings
from chinwag_server.config.settings import EnvoySettings
from chinwag_server.envoy import page
from chinwag_server.envoy.front import Address, Bridge, Front, Limits, Listen, Nodes, Tls

LOOPBACK = "127.0.0.1"


def configured(settings: Settings) -> Front:
    """As the settings say: for an Envoy that somebody else starts.

    Raises:
        ConfigError: Something is missing or wrong.
        PageError: The page cannot be served.
    """
    envoy = settings.envoy
    if not envoy.nodes and not envoy.xds_address:
        raise ConfigError("envoy.nodes or envoy.xds_address: say where the nodes are")
    if envoy.tls_cert_file is None or envoy.tls_key_file is None:
        raise ConfigError(
            "envoy.tls_cert_file, envoy.tls_key_file: name a certificate and its key; only "
            "`chinwag run` makes one of its own"
        )
    tls = Tls(envoy.tls_cert_file, envoy.tls_key_file)
    nodes = Nodes(
        addresses=tuple(_address("envoy.nodes", text) for text in envoy.nodes),
        xds=_address("envoy.xds_address", envoy.xds_address) if envoy.xds_address else None,
        ca_file=envoy.node_ca_file,
        name=envoy.node_name,
    )
    return _front(
        settings,
        (Listen(Address(envoy.host, envoy.port), tls),),
        nodes,
        _address("envoy.jwks_address", envoy.jwks_address),
        bridge=envoy.bridge,
    )


def before(
    settings: Settings, node_port: int, http_port: int, ports: tuple[int, int], tls: Tls
) -> Front:
    """Before the one node of this machine.

    Args:
        ports: By TLS, and in plain text on loopback; 0: not.

    Raises:
        ConfigError, PageError: As `configured`.
    """
    tls_port, plain_port = ports
    listen = [Listen(Address(settings.envoy.host, tls_port), tls)]
    if plain_port:
        listen.append(Listen(Address(LOOPBACK, plain_port)))
    return replace(
        _front(
            settings,
            tuple(listen),
            Nodes((Address(LOOPBACK, node_port),)),
            Address(LOOPBACK, http_port),
            bridge=settings.envoy.bridge and page.LIBRARY.exists(),
        ),
        access_log=settings.envoy.access_log if settings.envoy.access_log != "/dev/stdout" else "",
    )


def admin_socket(settings: Settings) -> Path:
    """Where Envoy's admin interface is."""
    return settings.envoy.admin_socket or settings.data_dir / "envoy" / "admin.sock"


def _front(
    settings: Settings,
    listen: tuple[Listen, ...],
    nodes: Nodes,
    jwks: Address,
    *,
    bridge: bool,
) -> Front:
    envoy = settings.envoy
    return Front(
        listen=listen,
        nodes=nodes,
        jwks=jwks,
        admin=admin_socket(settings).absolute(),
        issuer=settings.account.issuer,
        stats=_address("envoy.stats_address", envoy.stats_address) if envoy.stats_address else None,
        origins=envoy.origins,
        bridge=Bridge(max_message_bytes=settings.limits.message_bytes) if bridge else None,
        page=page.load(envoy.page_dir or page.FOLDER),
        limits=_limits(envoy),
        access_log=envoy.access_log,
        trusted_hops=envoy.trusted_hops,
    )


def _limits(envoy: EnvoySettings) -> Limits:
    return Limits(
        requests_per_second=envoy.requests_per_second,
        requests_burst=envoy.requests_burst,
        connections=envoy.connections,
    )


def _address(key: str, text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
