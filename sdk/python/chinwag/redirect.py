"""Whether a client goes where a server sends it (`Close.address`).

A client shows its token to whatever it connects to. A server that was taken over, or one whose
settings are wrong, could send all its clients to a host of somebody else, or to a plain-text port.
So an address of the server is followed only if it is one of those that the application gave, or if
the application allows it; and never from TLS to plain text. An address that is not followed costs
nothing: the client reconnects to one of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from chinwag.errors import InsecureAddress
from chinwag.transport import Security

log = logging.getLogger(__name__)

# Decides on an address that a server names and that is not one of the client's own.
AllowAddress = Callable[[str], bool]


def may_follow(
    addresses: Sequence[str], security: Security, allow: AllowAddress | None
) -> Callable[[str], bool]:
    """Makes the rule for a client.

    Args:
        addresses: The client's own; the server's address is compared as it is written.
        allow: See `connect`; None: no other address.
    """
    own = frozenset(addresses)
    has_tls = any(security.credentials(address) is not None for address in own)

    def rule(address: str) -> bool:
        if address in own:
            return True
        if allow is None or not _is_allowed(allow, address):
            log.warning("the server says to go to %s, which is not among the addresses", address)
            return False
        try:
            is_good = security.credentials(address) is not None or not has_tls
        except InsecureAddress:
            is_good = False
        if not is_good:
            log.warning("the server says to go to %s, which would be without TLS", address)
        return is_good

    return rule


def _is_allowed(allow: AllowAddress, address: str) -> bool:
    try:
        return bool(allow(address))
    except Exception:
        log.exception("allow_address failed for %s", address)
        return False
