"""Which node a channel's calls go to."""

from __future__ import annotations

import asyncio
from typing import Protocol

from chinwag_server.rpc.errors import Refusal

# How long a call waits for a channel's new owner: an owner that is killed is one for as long as
# its lease lasts, and clients repeat for longer than that.
WAIT_S = 4.0
LOOK_S = 0.03
RETRY_AFTER_S = 1.0


class Owners(Protocol):
    """Who owns channels, as this node knows it."""

    @property
    def node_id(self) -> str:
        """This node's."""

    def owns(self, channel_id: str) -> bool:
        """Whether this node owns the channel now and takes new work for it."""

    def owner_of(self, channel_id: str) -> str | None:
        """The node that was last seen to own the channel. It may be gone, and if it is this one it
        may not serve it yet."""


def nobody_owns() -> Refusal:
    """The channel has no owner at the moment."""
    return Refusal(
        "STORAGE_UNAVAILABLE",
        "the channel is moving to another node: retry with the same id",
        retry_after=RETRY_AFTER_S,
    )


class Until:
    """The end of a wait, on the loop's clock."""

    def __init__(self, seconds: float) -> None:
        self._end = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below 0."""
        return max(0.0, self._end - asyncio.get_running_loop().time())


async def owner_of(owners: Owners, channel_id: str, until: Until, *, again: bool = False) -> str:
    """The channel's owner, waited for.

    Args:
        again: The one that is known has just said that it is not, or did not answer.

    Raises:
        Refusal: STORAGE_UNAVAILABLE: there was none in time.
    """
    while True:
        if again:
            if not until.left:
                raise nobody_owns()
            await asyncio.sleep(LOOK_S)
        if owners.owns(channel_id):
            return owners.node_id
        node_id = owners.owner_of(channel_id)
        if node_id is not None and node_id != owners.node_id:
            return node_id
        again = True
