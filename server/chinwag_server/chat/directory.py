"""What chat asks the account room about people."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Directory(Protocol):
    """Relations between users. Answers may come from a bounded cache that changes drop."""

    async def existing(self, user_ids: Collection[str]) -> set[str]:
        """Those of the ids that are live accounts."""

    async def may_write(self, sender_id: str, recipient_id: str) -> bool:
        """Whether a direct message may go from one to the other: not blocked by the recipient,
        allowed by their privacy setting, the account live. The reason is never told."""

    async def may_add(self, adder_id: str, user_id: str) -> bool:
        """Whether one may add the other to a channel."""
