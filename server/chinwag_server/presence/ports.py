"""What presence asks of the rest: other nodes, accounts, channels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from chinwag_server.account.directory import Sight
from chinwag_server.presence.states import Connected, Status

Undo = Callable[[], None]


class States(Protocol):
    """What users' devices make, over all nodes. It follows the devices of its own.

    Attributes:
        on_change: Called with a watched user who may appear otherwise than before.
    """

    on_change: Callable[[str], None]

    async def of(self, user_ids: Collection[str]) -> dict[str, Connected]:
        """The state of each.

        Raises:
            Unavailable: It cannot be known now.
        """

    def watch(self, user_id: str) -> Undo:
        """Somebody here wants to know of a user from now on."""


@dataclass(slots=True, frozen=True)
class Profile:
    """What an account says of a user.

    Attributes:
        contacts_see: Whether who shares a channel with them may see their presence.
    """

    status: Status
    contacts_see: bool


class Accounts(Protocol):
    """What presence knows of people."""

    async def sight(self, viewer_id: str, owner_id: str) -> Sight | None:
        """What a user's presence is to another; None: there is no such user."""

    async def profiles(self, user_ids: Collection[str]) -> dict[str, Profile]:
        """What accounts say; without those that are not there."""


class Channels(Protocol):
    """What presence knows of channels."""

    async def shared(self, channel_id: str, user_id: str, other_id: str) -> bool:
        """Whether both are members of a direct channel or group that is small enough for presence
        to be broadcast in."""

    async def check_member(self, channel_id: str, user_id: str) -> None:
        """Refuses who is no member.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER.
        """

    def members(self, channel_id: str) -> AsyncIterator[Sequence[str]]:
        """The ids of all members, page by page."""
