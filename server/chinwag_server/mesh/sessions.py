"""The sessions' port: which nodes hold devices of a user.

It can be made again from what the nodes know. An entry counts while its node lives, and a node
lives while it refreshes its life in time. A *node id* is of one life of one process: who starts
again takes a new one. Every adapter passes tests/mesh/sessions_contract.py.

Ids hold no NUL. Every call may raise `Unavailable`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol


class Sessions(Protocol):
    """Devices of users on nodes. A device may be on two nodes for the moment of its move."""

    async def refresh(self, node_id: str) -> bool:
        """Begins or prolongs a node's life; to be called a few times within its length.

        Returns:
            Whether all that the node added is still there. If not (its first refresh, a life that
            ran out, a wiped store or another one), it must `restore`.
        """

    async def add(self, user_id: str, device_id: str, node_id: str) -> None:
        """Notes a device. If this fails, the caller tries again: nobody else will."""

    async def remove(self, user_id: str, device_id: str, node_id: str) -> None:
        """Forgets a device on this node; on another node it stays. If this fails, the node gets
        copies for nobody for as long as it lives."""

    async def restore(self, node_id: str, devices: Iterable[tuple[str, str]]) -> None:
        """Adds all of a node's (user id, device id) again.

        Args:
            devices: Read as it goes on; what is removed meanwhile must not come after that.
        """

    async def nodes_of(self, user_ids: Collection[str]) -> dict[str, set[str]]:
        """The living nodes with devices of each of the users, in one round trip for hundreds;
        users without any are left out."""

    async def end(self, node_id: str) -> None:
        """Ends a node's life now: its entries no longer count."""

    async def sweep(self) -> int:
        """Removes some thousand entries of dead nodes, and says how many; to be called now and
        then by any node."""
