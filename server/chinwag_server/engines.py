"""The engines of a mesh as the settings name them: addresses with credentials and certificates.

Each adapter is imported only where it is used: their drivers are an extra of the package.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from chinwag_server.chat.store import StoreError
from chinwag_server.config import ConfigError, MeshSettings, Settings

if TYPE_CHECKING:
    from chinwag_server.clock import Clock
    from chinwag_server.mesh.etcd import EtcdClient


def chat_url(settings: Settings) -> str:
    """Of Cassandra, for `chat.cassandra`.

    Raises:
        ConfigError: It is none, or a file cannot be read.
    """
    from chinwag_server.chat.cassandra.address import Address

    url = _with_ca(settings.stores.chat_url, settings.mesh.chat_ca_file, "mesh.chat_ca_file")
    try:
        Address.parse(url)
    except StoreError as error:
        raise ConfigError(f"stores.chat_url: {error}") from error
    return url


def redis_url(settings: Settings) -> str:
    """Of Redis, for `mesh.redis`.

    Raises:
        ConfigError: It is none, or a file cannot be read.
    """
    from chinwag_server.mesh.redis.address import parse

    url = _with_ca(settings.mesh.redis_url, settings.mesh.redis_ca_file, "mesh.redis_ca_file")
    try:
        parse(url)
    except ValueError as error:
        raise ConfigError(f"mesh.redis_url: {error}") from error
    return url


def etcd_client(settings: Settings, clock: Clock | None = None) -> EtcdClient:
    """A client of etcd, on the running event loop; the caller's to close.

    Raises:
        ConfigError: The URL is none, or a file cannot be read.
    """
    from chinwag_server.mesh.etcd import EtcdClient, EtcdTls
    from chinwag_server.mesh.etcd.address import parse

    ca = settings.mesh.coordination_ca_file
    try:
        address = parse(settings.mesh.coordination_url)
    except ValueError as error:
        raise ConfigError(f"mesh.coordination_url: {error}") from error
    if ca is not None and not address.tls:
        raise ConfigError(
            "mesh.coordination_ca_file: mesh.coordination_url begins with etcds://, else nothing "
            "is checked"
        )
    _check_file(ca, "mesh.coordination_ca_file")
    return EtcdClient(
        address.endpoints,
        tls=EtcdTls(ca) if address.tls else None,
        user=address.user,
        password=address.password,
        clock=clock,
    )


def advertised(mesh: MeshSettings, port: int) -> str:
    """HOST:PORT at which the other nodes reach this one.

    Args:
        port: Where it listens.
    """
    text = mesh.advertise or mesh.host
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"
    return text if urlsplit(f"//{text}").port else f"{text}:{port}"


def client_address(mesh: MeshSettings, port: int) -> str:
    """HOST:PORT at which clients, and what balances them, reach this node.

    Args:
        port: Where its gRPC server listens.
    """
    text = mesh.advertise or mesh.host
    host = urlsplit(f"//[{text}]" if text.count(":") > 1 and "[" not in text else f"//{text}")
    name = host.hostname or text
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _with_ca(url: str, ca: Path | None, key: str) -> str:
    if ca is None:
        return url
    _check_file(ca, key)
    return f"{url}{'&' if '?' in url else '?'}ca={quote(str(ca), safe='/')}"


def _check_file(path: Path | None, key: str) -> None:
    """Drivers say of a file that is not there no more than that."""
    if path is None:
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from error
