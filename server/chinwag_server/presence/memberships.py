"""`ports.Channels` over what chat reads: the store of a node that is alone, an edge's reads in a
mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from chinwag.chat.v1 import channel_pb2
from chinwag_server.account.cache import Cache
from chinwag_server.chat.channels import not_found
from chinwag_server.chat.store import ChannelRecord, MemberRecord, StoreUnavailable
from chinwag_server.clock import Clock
from chinwag_server.rpc.errors import Refusal

PAGE = 1000
REMEMBERED = 200_000
# Memberships change without presence hearing of it.
HOLDS_S = 10.0

_BROADCAST = channel_pb2.CHANNEL_KIND_BROADCAST


class Reads(Protocol):
    """What is read of channels; each may raise `StoreUnavailable`."""

    async def channel(self, channel_id: str) -> ChannelRecord | None: ...

    async def member(self, channel_id: str, user_id: str) -> MemberRecord | None: ...

    async def member_page(
        self, channel_id: str, after_user_id: str, limit: int
    ) -> list[MemberRecord]: ...


class Memberships:
    """Who is in which channel.

    Args:
        max_members: Channels with more members give no ground to watch each other.
    """

    def __init__(self, reads: Reads, clock: Clock, *, max_members: int = 100) -> None:
        self._reads = reads
        self._clock = clock
        self._max_members = max_members
        self._shared: Cache[tuple[str, str, str], tuple[float, bool]] = Cache(REMEMBERED)

    async def shared(self, channel_id: str, user_id: str, other_id: str) -> bool:
        """As the port says; an answer holds for ten seconds.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        key = (channel_id, min(user_id, other_id), max(user_id, other_id))
        known = self._shared.get(key)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        try:
            found = await self._share(channel_id, user_id, other_id)
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        self._shared.put(key, (self._clock.monotonic() + HOLDS_S, found))
        return found

    async def _share(self, channel_id: str, user_id: str, other_id: str) -> bool:
        channel = await self._reads.channel(channel_id)
        if (
            channel is None
            or channel.deleted
            or channel.kind == _BROADCAST
            or channel.member_count > self._max_members
        ):
            return False
        for each in (user_id, other_id):
            member = await self._reads.member(channel_id, each)
            if member is None or not member.role:
                return False
        return True

    async def check_member(self, channel_id: str, user_id: str) -> None:
        """As the port says; "" is an API key that stands for nobody.

        Raises:
            Refusal: CHANNEL_NOT_FOUND, NOT_A_MEMBER, STORAGE_UNAVAILABLE.
        """
        try:
            channel = await self._reads.channel(channel_id)
            if channel is None or channel.deleted:
                raise not_found(channel_id)
            if not user_id:
                return
            member = await self._reads.member(channel_id, user_id)
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        if member is None:
            raise not_found(channel_id)
        if not member.role:
            raise Refusal("NOT_A_MEMBER", "you are no member of this channel any more")

    async def members(self, channel_id: str) -> AsyncIterator[Sequence[str]]:
        """As the port says.

        Raises:
            Refusal: STORAGE_UNAVAILABLE.
        """
        after = ""
        while True:
            try:
                page = await self._reads.member_page(channel_id, after, PAGE)
            except StoreUnavailable as error:
                raise _unavailable(error) from error
            if page:
                yield [member.user_id for member in page]
            if len(page) < PAGE:
                return
            after = page[-1].user_id


def _unavailable(error: Exception) -> Refusal:
    return Refusal("STORAGE_UNAVAILABLE", str(error), retry_after=1.0)


__all__ = ["Memberships", "Reads"]
