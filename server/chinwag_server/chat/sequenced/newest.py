"""Which sends cannot be repeats: an owner need not look for those.

A client_message_id is a UUIDv7, whose bytes sort by the time at which it was made, and the rows of
a sender's sends of one week lie in one partition in their order. So one read of the newest of them
tells, for as long as the channel's owner stays, that everything newer was never stored; what the
owner itself stores since then it notes. A client whose clock runs backwards is looked for, no more.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_SENDERS = 512

Place = tuple[str, int]  # sender, week


@dataclass(slots=True)
class _Newest:
    message_id: bytes
    known: bool = False  # whether what was stored before is counted


class NewestSends:
    """The newest client_message_id of each sender of a channel, under one epoch."""

    def __init__(self, most: int = MAX_SENDERS) -> None:
        self._most = most
        self._newest: OrderedDict[Place, _Newest] = OrderedDict()

    def is_new(self, sender_id: str, week: int, message_id: bytes) -> bool | None:
        """Whether it was certainly never stored; None: nothing is known of the sender."""
        newest = self._newest.get((sender_id, week))
        if newest is None or not newest.known:
            return None
        return message_id > newest.message_id

    def learned(self, sender_id: str, week: int, message_id: bytes) -> None:
        """The newest that is stored, as was read after the channel was taken over; none: b""."""
        self._raise(sender_id, week, message_id).known = True

    def stored(self, sender_id: str, week: int, message_id: bytes) -> None:
        """A send is being stored, or has been: to be told before and after, since what is read in
        between may miss it."""
        self._raise(sender_id, week, message_id)

    def _raise(self, sender_id: str, week: int, message_id: bytes) -> _Newest:
        place = (sender_id, week)
        newest = self._newest.get(place)
        if newest is None:
            newest = self._newest[place] = _Newest(message_id)
            if len(self._newest) > self._most:
                self._newest.popitem(last=False)
        else:
            newest.message_id = max(newest.message_id, message_id)
            self._newest.move_to_end(place)
        return newest
