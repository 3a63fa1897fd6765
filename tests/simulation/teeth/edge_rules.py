"""The rules of the way out to devices, taken out: these are missed by whole nodes alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from chinwag_server.chat.catchup import Progress
from chinwag_server.chat.routed import stamps
from chinwag_server.chat.routed.edge import Edge
from chinwag_server.chat.routed.fanout import Fanout
from chinwag_server.chat.routed.inboxes import Inboxes
from chinwag_server.chat.routed.sends import RoutedSends
from chinwag_server.chat.streams import Streams
from chinwag_server.mesh.memory_inbox import MemoryInbox
from tests.simulation.teeth.tooth import method, nothing, tooth


@tooth("links")
def edges_read_holes() -> Sequence[Any]:
    """An event that is not the next one makes an edge read what is missing first."""

    def entries(
        self: Edge,
        channel_id: str,
        first_id: int,
        pieces: Sequence[bytes],
        user_ids: Collection[str] | None,
    ) -> None:
        here = self._here(channel_id, user_ids)
        if here is not None and not here:
            return
        for entry_id, piece in enumerate(pieces, first_id):
            self._note(channel_id, entry_id, here)
            self._listeners.entry(channel_id, entry_id, piece, here)

    return [method(Edge, "entries", entries)]


@tooth("links")
def heads_are_repeated() -> Sequence[Any]:
    """Owners repeat the heads of what changed a moment ago: the last of a burst has no successor
    that shows its loss."""
    return [method(Fanout, "_repeat", nothing)]


@tooth("roaming")
def inboxes_before_the_ack() -> Sequence[Any]:
    """The members' inboxes are told before an ack: of a channel that a device does not know yet
    nothing else tells it as it comes back."""
    return [method(Inboxes, "touch", nothing)]


@tooth("forgotten")
def generation_raised_on_loss() -> Sequence[Any]:
    """Inboxes that were lost get another generation, so that no stamp hides what they held."""
    whole = MemoryInbox._check

    async def check(self: MemoryInbox) -> int:
        if not self._server.generation and not self._server.away:
            self._server.generation = max(1, self._agreed)
        return await whole(self)

    return [method(MemoryInbox, "_check", check)]


@tooth("forgotten")
def stamps_are_of_a_past() -> Sequence[Any]:
    """A stamp says nothing of the last moments: an event of then may be under way."""
    return [method(stamps, "MARGIN_US", 0)]


@tooth("roaming")
def entries_are_noted_meanwhile() -> Sequence[Any]:
    """What is committed while a device catches up waits for what it has missed."""
    return [method(Progress, "note", lambda *_args: True)]


@tooth("links")
def long_silence_ends_streams() -> Sequence[Any]:
    """Whoever may have missed something that is not repeated any more comes back and catches up."""
    return [method(Streams, "resume", lambda *_args: None)]


@tooth("nodes")
def none_overtakes() -> Sequence[Any]:
    """What is behind a send that is given up is given up too."""
    return [method(RoutedSends, "_overtakes", staticmethod(lambda *_args: False))]
