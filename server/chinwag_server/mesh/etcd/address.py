"""Where etcd is and who we are there, read from a URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

FORM = "etcd[s]://[user:password@]host[:port][,host[:port]...]"
PORT = 2379


@dataclass(slots=True, frozen=True)
class Address:
    """The members of one cluster.

    Attributes:
        endpoints: HOST:PORT of each; one or more.
    """

    endpoints: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False

    def __str__(self) -> str:
        """For messages: without the password."""
        return f"{'etcds' if self.tls else 'etcd'}://{','.join(self.endpoints)}"


def parse(url: str) -> Address:
    """Reads a URL.

    Raises:
        ValueError: It has another form; the text does not show the URL, which has a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"this is no URL of etcd: expected {FORM}") from None
    if parts.scheme not in ("etcd", "etcds"):
        raise ValueError(f"a URL of etcd begins with etcd:// or etcds://: expected {FORM}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"a URL of etcd ends with its hosts: expected {FORM}")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    if bool(user) != bool(password):
        raise ValueError(f"a user of etcd and the password need each other: expected {FORM}")
    return Address(
        tuple(_endpoint(text) for text in hosts.split(",")),
        unquote(user),
        unquote(password),
        parts.scheme == "etcds",
    )


def _endpoint(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        raise ValueError(f"a port is a number up to 65535: expected {FORM}") from None
    if not parts.hostname:
        raise ValueError(f"a URL of etcd names a host: expected {FORM}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{PORT if port is None else port}"
