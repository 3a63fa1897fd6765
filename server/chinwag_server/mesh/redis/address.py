"""Where Redis is and who we are there, read from a URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

FORM = "redis[s]://[user:password@]host[:port][,host[:port]...][/db][?ca=FILE]"
PORT = 6379


@dataclass(slots=True, frozen=True)
class Address:
    """One Redis, which may have moved to another of its hosts.

    Attributes:
        hosts: (host, port) of the primary and of replicas that may become it.
        ca: A PEM file that vouches for the server's certificate; "": the system's.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: bool = False
    ca: str = ""

    def __str__(self) -> str:
        """For messages: without the password."""
        hosts = ",".join(show_host(host, port) for host, port in self.hosts)
        return f"{'rediss' if self.tls else 'redis'}://{hosts}/{self.db}"


def parse(url: str) -> Address:
    """Reads a URL.

    Raises:
        ValueError: It has another form; the text does not show the URL, which has a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError(f"a Redis URL begins with redis:// or rediss://: expected {FORM}")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    ca = options.pop("ca", "")
    if options or parts.fragment:
        raise ValueError(f"a Redis URL has no option but ca: expected {FORM}")
    if ca and parts.scheme == "redis":
        raise ValueError("a Redis URL with ca= begins with rediss://, else nothing is checked")
    db = parts.path.removeprefix("/") or "0"
    if not (db.isascii() and db.isdigit()):
        raise ValueError(f"a Redis URL's path is a database number, as /0: expected {FORM}")
    return Address(
        tuple(_host(text) for text in hosts.split(",")),
        unquote(user),
        unquote(password),
        int(db),
        parts.scheme == "rediss",
        ca,
    )


def show_host(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"a port is a number up to 65535: expected {FORM}") from None
    if not parts.hostname:
        raise ValueError(f"a Redis URL names a host: expected {FORM}")
    return parts.hostname, PORT if port is None else port
