"""Marks and typing of devices, on their way to the owners of the channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chinwag.chat.v1 import connect_pb2
from chinwag.mesh.v1 import mesh_service_pb2 as pb
from chinwag_server.chat.marks import Marks
from chinwag_server.chat.routed.callers import put_caller
from chinwag_server.chat.routed.owners import WAIT_S, Owners, Until, nobody_owns, owner_of
from chinwag_server.mesh.links import Links, Unreachable
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.errors import Refusal

ASK_S = 5.0


class RoutedSignals:
    """What a device's stream asks of `Marks`, run by the channel's owner. A mark may be raised
    twice without harm, so that every failure but a refusal is tried again."""

    def __init__(self, owners: Owners, links: Links, local: Marks) -> None:
        self._owners = owners
        self._links = links
        self._local = local

    @property
    def telling(self) -> bool:
        """Whether a register that is durable has yet to be passed on."""
        return self._local.telling

    async def move(
        self, caller: Caller, channel_id: str, read_id: int, delivered_id: int
    ) -> object:
        """Raises marks.

        Raises:
            Refusal: as `Marks.move`.
        """
        mark = connect_pb2.Mark(channel_id=channel_id, read_id=read_id, delivered_id=delivered_id)
        await self._at_owner(
            channel_id,
            pb.Signals(caller=put_caller(caller), marks=[mark]),
            lambda: self._local.move(caller, channel_id, read_id, delivered_id),
        )
        return None

    async def typing(
        self, caller: Caller, channel_id: str, thread_root_id: int, active: bool
    ) -> None:
        """Tells the other members that the caller types.

        Raises:
            Refusal: as `Marks.typing`.
        """
        signal = connect_pb2.TypingSignal(
            channel_id=channel_id, thread_root_id=thread_root_id, active=active
        )
        await self._at_owner(
            channel_id,
            pb.Signals(caller=put_caller(caller), typing=[signal]),
            lambda: self._local.typing(caller, channel_id, thread_root_id, active),
        )

    async def _at_owner(
        self, channel_id: str, signals: pb.Signals, local: Callable[[], Awaitable[object]]
    ) -> None:
        until, again = Until(WAIT_S), False
        while True:
            node_id = await owner_of(self._owners, channel_id, until, again=again)
            again = True
            if node_id == self._owners.node_id:
                try:
                    await local()
                    return
                except Refusal as refusal:
                    if refusal.reason != "STORAGE_UNAVAILABLE" or self._owners.owns(channel_id):
                        raise
                    continue
            try:
                answer = await self._links.ask(node_id, pb.Question(signals=signals), ASK_S)
            except Unreachable:
                continue
            if len(answer.signals.failed) != 1:
                raise nobody_owns()
            failed = answer.signals.failed[0]
            if failed.not_owner:
                continue
            if failed.HasField("refusal"):
                raise Refusal.of(failed.refusal)
            return
