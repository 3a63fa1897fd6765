"""Who is connected to this process, and passing pieces on to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Listener(Protocol):
    """Something of a user's that wants to know: a device's stream, or a waiting Sync."""

    @property
    def device_id(self) -> str: ...

    def offer(self, channel_id: str, entry_id: int, piece: bytes) -> None:
        """The next committed entry of a channel, as a piece with one event."""

    def offer_opened(self, channel_id: str, piece: bytes) -> None:
        """The user became a member: the entries behind the piece's start_id follow."""

    def offer_gone(self, channel_id: str) -> None:
        """The user is no member of a broadcast channel any more, which no entry tells."""

    def offer_state(self, channel_id: str, piece: bytes) -> None:
        """The user's own registers of a channel changed."""

    def offer_receipts(self, channel_id: str, piece: bytes) -> None:
        """Other members' marks."""

    def offer_typing(self, piece: bytes) -> None:
        """Other members' typing."""


class Delivery(Protocol):
    """The way of pieces from a channel's owner to its members' devices, wherever they are. Nothing
    here waits. `user_ids` says whose devices get a piece; None: those that look at the channel."""

    def reaches(self, user_id: str, but_device_id: str = "") -> bool:
        """Whether the user may have a device, other than that one, that is connected."""

    def entry(
        self, channel_id: str, entry_id: int, piece: bytes, user_ids: Collection[str] | None
    ) -> None:
        """A committed entry; those of a channel come in their order."""

    def opened(self, user_id: str, channel_id: str, piece: bytes) -> None:
        """A channel that the user came into; its entries follow."""

    def gone(self, user_id: str, channel_id: str) -> None:
        """The user is no member of a broadcast channel any more."""

    def state(self, user_id: str, channel_id: str, piece: bytes, but_device_id: str) -> None:
        """The user's own registers, for all devices but the one that set them."""

    def receipts(self, channel_id: str, piece: bytes, user_ids: Collection[str]) -> None:
        """Members' marks."""

    def typing(self, channel_id: str, piece: bytes, user_ids: Collection[str] | None) -> None:
        """Somebody types. May be lost."""


class Listeners:
    """The listeners of one process: the `Delivery` where there is no other process."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}
        self._looking: dict[str, dict[Listener, None]] = {}
        self.deliveries = 0

    # --- who is there ---

    def join(self, user_id: str, listener: Listener) -> None:
        """From now on the listener is offered what its user gets."""
        self._listeners.setdefault(user_id, []).append(listener)

    def leave(self, user_id: str, listener: Listener) -> None:
        """Forgets a listener; unknown ones too."""
        listeners = self._listeners.get(user_id)
        if listeners is not None and listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[user_id]

    async def heard(self, user_id: str) -> None:
        """Waits until what is committed from now on reaches the user's listeners: what was
        committed before is in the store."""

    def users(self) -> Collection[str]:
        """Who has a listener."""
        return self._listeners.keys()

    def count(self, user_id: str) -> int:
        """How many listeners a user has."""
        return len(self._listeners.get(user_id, ()))

    def look(self, channel_id: str, listener: Listener) -> None:
        """The listener looks at a broadcast channel."""
        self._looking.setdefault(channel_id, {})[listener] = None

    def look_away(self, channel_id: str, listener: Listener) -> None:
        """It does not any more."""
        looking = self._looking.get(channel_id)
        if looking is not None:
            looking.pop(listener, None)
            if not looking:
                del self._looking[channel_id]

    def looked_at(self) -> Collection[str]:
        """The channels that somebody looks at."""
        return self._looking.keys()

    # --- Delivery ---

    def reaches(self, user_id: str, but_device_id: str = "") -> bool:
        listeners = self._listeners.get(user_id)
        if not listeners:
            return False
        return not but_device_id or any(item.device_id != but_device_id for item in listeners)

    def entry(
        self, channel_id: str, entry_id: int, piece: bytes, user_ids: Collection[str] | None
    ) -> None:
        if user_ids is None:
            looking = self._looking.get(channel_id)
            if looking:
                for listener in tuple(looking):
                    listener.offer(channel_id, entry_id, piece)
                self.deliveries += len(looking)
            return
        listeners = self._listeners
        count = 0
        for user_id in user_ids:
            for listener in listeners.get(user_id, ()):
                listener.offer(channel_id, entry_id, piece)
                count += 1
        self.deliveries += count

    def opened(self, user_id: str, channel_id: str, piece: bytes) -> None:
        for listener in self._listeners.get(user_id, ()):
            listener.offer_opened(channel_id, piece)

    def gone(self, user_id: str, channel_id: str) -> None:
        for listener in tuple(self._listeners.get(user_id, ())):
            self.look_away(channel_id, listener)
            listener.offer_gone(channel_id)

    def state(self, user_id: str, channel_id: str, piece: bytes, but_device_id: str) -> None:
        for listener in tuple(self._listeners.get(user_id, ())):
            if not but_device_id or listener.device_id != but_device_id:
                listener.offer_state(channel_id, piece)

    def receipts(self, channel_id: str, piece: bytes, user_ids: Collection[str]) -> None:
        for user_id in user_ids:
            for listener in self._listeners.get(user_id, ()):
                listener.offer_receipts(channel_id, piece)

    def typing(self, channel_id: str, piece: bytes, user_ids: Collection[str] | None) -> None:
        if user_ids is None:
            for listener in tuple(self._looking.get(channel_id, ())):
                listener.offer_typing(piece)
            return
        for user_id in user_ids:
            for listener in self._listeners.get(user_id, ()):
                listener.offer_typing(piece)
