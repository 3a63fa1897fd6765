"""Where a client may connect: one address or several."""

from __future__ import annotations

from collections.abc import Iterable

Addresses = str | Iterable[str]

MAX_ADDRESSES = 100


def parse_addresses(addresses: Addresses) -> tuple[str, ...]:
    """Reads "host:port", "host:port,host2:port" or a list of such.

    Returns:
        Each address once, in the order given.

    Raises:
        ValueError: None is given, one is empty or holds white space, or there are too many.
    """
    text = addresses if isinstance(addresses, str) else ",".join(addresses)
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(found) or any(part.split() != [part] for part in found):
        raise ValueError(
            f"expected an address such as localhost:7400, or several with commas, got {text!r}"
        )
    if len(found) > MAX_ADDRESSES:
        raise ValueError(f"expected at most {MAX_ADDRESSES} addresses, got {len(found)}")
    return found
