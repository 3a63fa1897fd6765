"""Where a cluster is: `cassandra://user:password@host:port,host:port/keyspace?dc=...&rf=3`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from chinwag_server.chat.store import StoreError

PORT = 9042
DATACENTER = "datacenter1"  # what a Cassandra calls it that nobody told anything
REPLICAS = 3
EXPECTED = "cassandra://[user:password@]host[:port],.../keyspace[?dc=NAME&rf=3&ca=FILE]"


@dataclass(slots=True, frozen=True)
class Address:
    """A parsed URL.

    Attributes:
        hosts: Names or IP addresses with ports; the nodes that are asked for the others.
        datacenter: Whose nodes are spoken to.
        replicas: How many copies a new keyspace has in the data centre.
        ca: A PEM file of who may vouch for the nodes; empty: no TLS.
    """

    hosts: tuple[tuple[str, int], ...]
    keyspace: str
    user: str = ""
    password: str = field(default="", repr=False)
    datacenter: str = DATACENTER
    replicas: int = REPLICAS
    ca: str = ""

    def __str__(self) -> str:
        """For messages: without the password."""
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        return f"cassandra://{hosts}/{self.keyspace}"

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads a URL.

        Raises:
            StoreError: It is none: the text says what is wrong and never has the password.
        """
        try:
            parts = urlsplit(url)
            login, _, hosts = parts.netloc.rpartition("@")
            user, _, password = login.partition(":")
            options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
            address = cls(
                tuple(_host(part) for part in hosts.split(",")),
                unquote(parts.path.removeprefix("/")),
                unquote(user),
                unquote(password),
                options.pop("dc", DATACENTER),
                int(options.pop("rf", REPLICAS)),
                options.pop("ca", ""),
            )
        except ValueError as error:
            # Its text may have a part of the URL, and that the password.
            raise StoreError(f"the URL of Cassandra cannot be read: it is {EXPECTED}") from error
        if parts.scheme != "cassandra":
            raise StoreError(f"the URL of Cassandra is {EXPECTED}, not {parts.scheme}://...")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", address.keyspace):
            raise StoreError(
                f"{address}: a keyspace is of a-z, 0-9 and _, begins with a letter and has at "
                "most 48 of them"
            )
        if not 1 <= address.replicas <= 9:
            raise StoreError(f"{address}: rf={address.replicas} is not from 1 to 9")
        if options:
            raise StoreError(f"{address}: unknown options {', '.join(options)}: it is {EXPECTED}")
        return address


def _host(part: str) -> tuple[str, int]:
    split = urlsplit(f"//{part}")
    if not split.hostname:
        raise ValueError("no host")
    return split.hostname, split.port or PORT
