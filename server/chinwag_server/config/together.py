"""What settings need of each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from chinwag_server.config.settings import ListenSettings, MeshSettings, Settings
from chinwag_server.rpc.listening import is_loopback

# Addresses to bind that are none at which anybody could be reached.
_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each thing that is wrong: the setting to name, and what to say of it."""
    yield from _listen(settings.listen)
    if settings.limits.frame_bytes > settings.limits.message_bytes:
        yield "limits.frame_bytes", "must not exceed limits.message_bytes"
    envoy = settings.envoy
    if (envoy.tls_cert_file is None) != (envoy.tls_key_file is None):
        key = "envoy.tls_cert_file" if envoy.tls_cert_file else "envoy.tls_key_file"
        yield key, "certificate and key need each other"
    yield from _complete_mesh(settings)
    yield from _between_nodes(settings.mesh)


def _listen(listen: ListenSettings) -> Iterator[tuple[str, str]]:
    if (listen.tls_cert_file is None) != (listen.tls_key_file is None):
        key = "listen.tls_cert_file" if listen.tls_cert_file else "listen.tls_key_file"
        yield key, "certificate and key need each other"
    if listen.tls_client_ca_file is not None and listen.tls_cert_file is None:
        yield "listen.tls_client_ca_file", "needs a certificate and key of the server"


def _complete_mesh(settings: Settings) -> Iterator[tuple[str, str]]:
    mesh, stores = settings.mesh, settings.stores
    # Without the last two a node may be alone, with them too.
    alone = {
        "mesh.coordination_url": mesh.coordination_url,
        "mesh.redis_url": mesh.redis_url,
        "stores.chat_url": stores.chat_url,
    }
    given = [key for key, value in alone.items() if value]
    if not given:
        return
    needed = {
        **alone,
        "stores.accounts_url": stores.accounts_url,
        "stores.cluster_id": stores.cluster_id,
    }
    missing = [key for key, value in needed.items() if not value]
    if missing:
        yield (
            given[0],
            f"a mesh also needs {', '.join(missing)}; a node that is alone has none of "
            f"{', '.join(alone)}",
        )


def _between_nodes(mesh: MeshSettings) -> Iterator[tuple[str, str]]:
    files = {
        "mesh.tls_cert_file": mesh.tls_cert_file,
        "mesh.tls_key_file": mesh.tls_key_file,
        "mesh.tls_ca_file": mesh.tls_ca_file,
    }
    given = [key for key, value in files.items() if value is not None]
    missing = [key for key, value in files.items() if value is None]
    if given and missing:
        yield given[0], f"nodes show each other certificates: it needs {', '.join(missing)} too"
    if not _is_address(mesh.advertise):
        yield "mesh.advertise", f"expected HOST or HOST:PORT, got {mesh.advertise!r}"
    if not mesh.coordination_url:
        return
    if not is_loopback(mesh.host) and missing:
        yield (
            "mesh.host",
            f"other machines reach {mesh.host!r}, so nodes need TLS between them: give "
            f"{', '.join(missing)}, or bind 127.0.0.1",
        )
    if mesh.host in _ANY_ADDRESS and not mesh.advertise:
        yield (
            "mesh.host",
            f"{mesh.host!r} is no address at which other nodes reach this one: name one in "
            "mesh.advertise",
        )


def _is_address(text: str) -> bool:
    """Whether it is empty, HOST or HOST:PORT; an IPv6 address with a port is in brackets."""
    if not text:
        return True
    try:
        if text.count(":") > 1 and not text.startswith("["):
            ipaddress.IPv6Address(text)
            return True
        parts = urlsplit(f"//{text}")
        return parts.netloc == text and bool(parts.hostname) and parts.port != 0 and "@" not in text
    except ValueError:
        return False
