"""A server's URL: whether it is one, and as it may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from chinwag_server.account.store import StoreError

SCHEMES = ("postgresql", "postgres")


def shown(url: str) -> str:
    """The URL without user, password and options."""
    whole = url.partition("?")[0]
    scheme, separator, rest = whole.partition("://")
    # A password may hold anything, an "@" too.
    return scheme + separator + rest.rpartition("@")[2]


def check(url: str) -> None:
    """Refuses what is no URL of PostgreSQL.

    Raises:
        StoreError: It is none; the text shows nothing of it but the scheme.
    """
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise StoreError(
            "expected a URL such as postgresql://user:password@host:5432/database, got one that "
            f"begins with {scheme!r}"
        )
