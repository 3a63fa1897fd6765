"""Who may do what with a user: blocks and privacy settings."""

from __future__ import annotations

from typing import Literal, Protocol

from chinwag.account.v1 import user_pb2
from chinwag_server.account import protos
from chinwag_server.account.records import RelationState, UserRecord
from chinwag_server.account.store import AccountStore

Right = Literal["write", "add_to_channels", "presence", "last_seen", "find", "request_friend"]


class Contacts(Protocol):
    """What chat knows of two users."""

    async def share_channel(self, user_id: str, other_id: str) -> bool:
        """Whether they are in a direct channel or a group together."""


class NoContacts:
    """Nobody shares a channel: until the chat room is there."""

    async def share_channel(self, user_id: str, other_id: str) -> bool:
        return False


class Audiences:
    """Answers for one user what another may do.

    Attributes:
        contacts: Who shares a channel with whom.
    """

    def __init__(self, store: AccountStore, contacts: Contacts | None = None) -> None:
        self.contacts: Contacts = contacts or NoContacts()
        self._store = store

    def of(self, owner: UserRecord, right: Right) -> user_pb2.Audience.ValueType:
        """Whom a user lets do something."""
        settings = protos.privacy(owner)
        audience: user_pb2.Audience.ValueType = getattr(settings, right)
        if right == "request_friend" and audience == user_pb2.AUDIENCE_FRIENDS:
            return user_pb2.AUDIENCE_NOBODY
        return audience

    async def blocked(self, user_id: str, other_id: str) -> bool:
        """Whether one of the two has blocked the other."""
        return (
            await self._store.block(user_id, other_id) is not None
            or await self._store.block(other_id, user_id) is not None
        )

    async def admits(self, owner: UserRecord, right: Right, viewer_id: str) -> bool:
        """Whether a user lets another do something: no block either way, and in the audience.

        Args:
            owner: Whom it is done with.
            viewer_id: Who wants to do it; "": an API key on behalf of nobody, which privacy
                does not bind.
        """
        if owner.deleted:
            return False
        if not viewer_id or viewer_id == owner.user_id:
            return True
        if await self.blocked(owner.user_id, viewer_id):
            return False
        audience = self.of(owner, right)
        if audience == user_pb2.AUDIENCE_EVERYONE:
            return True
        if audience == user_pb2.AUDIENCE_NOBODY:
            return False
        relation = await self._store.relation(owner.user_id, viewer_id)
        if relation.state == RelationState.FRIEND:
            return True
        return audience == user_pb2.AUDIENCE_CONTACTS and await self.contacts.share_channel(
            owner.user_id, viewer_id
        )
