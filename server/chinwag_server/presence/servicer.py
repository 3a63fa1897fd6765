"""PresenceService for callers: translates calls to rules and their results to answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from chinwag.presence.v1 import presence_service_pb2 as pb
from chinwag.presence.v1 import presence_service_pb2_grpc
from chinwag_server.account.statuses import Statuses
from chinwag_server.mesh.unavailable import Unavailable
from chinwag_server.presence.crowds import Crowds
from chinwag_server.presence.ports import States
from chinwag_server.presence.states import AUTO, Connected, Status
from chinwag_server.presence.track_streams import TrackStreams
from chinwag_server.presence.views import Views
from chinwag_server.presence.watching import Watching
from chinwag_server.rpc.caller import Caller, current_caller
from chinwag_server.rpc.errors import Refusal
from chinwag_server.rpc.framed_stream import Write
from chinwag_server.rpc.validation import invalid

Context = Any  # of the server core that runs the servicer: nothing here looks into it


class PresenceServicer(presence_service_pb2_grpc.PresenceServiceServicer):
    """The methods of PresenceService."""

    def __init__(
        self,
        *,
        views: Views,
        states: States,
        statuses: Statuses,
        crowds: Crowds,
        watching: Watching,
        streams: TrackStreams,
    ) -> None:
        self._views = views
        self._states = states
        self._statuses = statuses
        self._crowds = crowds
        self._watching = watching
        self._streams = streams

    async def Track(  # type: ignore[override]  # noqa: N802
        self, incoming: AsyncIterator[bytes], write: Write
    ) -> None:
        await self._streams.serve(current_caller(), incoming, write)

    async def GetPresence(  # noqa: N802
        self, request: pb.GetPresenceRequest, context: Context
    ) -> pb.GetPresenceResponse:
        try:
            found = await self._views.snapshot(current_caller().user_id, request.watches)
        except Unavailable as error:
            raise _unavailable(error) from error
        return pb.GetPresenceResponse(presences=found)

    async def SetStatus(  # noqa: N802
        self, request: pb.SetStatusRequest, context: Context
    ) -> pb.SetStatusResponse:
        caller = _user()
        connected = await self._connected(caller.user_id)

        def change(status: Status, now_us: int) -> Status:
            return changed(status, request, now_us)

        def answer(status: Status) -> pb.SetStatusResponse:
            return pb.SetStatusResponse(own=self._views.own(caller.user_id, connected, status))

        return await self._statuses.change(caller, request, change, answer)

    async def _connected(self, user_id: str) -> Connected:
        try:
            return (await self._states.of([user_id])).get(user_id, Connected())
        except Unavailable as error:
            raise _unavailable(error) from error

    async def GetChannelPresence(  # noqa: N802
        self, request: pb.GetChannelPresenceRequest, context: Context
    ) -> pb.GetChannelPresenceResponse:
        try:
            return await self._crowds.get(
                current_caller().user_id, request.channel_id, request.max_users
            )
        except Unavailable as error:
            raise _unavailable(error) from error


def changed(status: Status, request: pb.SetStatusRequest, now_us: int) -> Status:
    """A status after a request.

    Args:
        status: What holds now.

    Raises:
        Refusal: INVALID_FIELD: a time in the past.
    """
    paths, new = set(request.update_mask.paths), request.status
    until = {
        name: getattr(new, name).ToMicroseconds() if new.HasField(name) else 0
        for name in ("mode_until", "text_until")
    }
    past = [name for name, us in until.items() if name in paths and us and us <= now_us]
    if past:
        raise invalid([(f"status.{name}", "is in the past") for name in past])
    if "mode" in paths:
        mode = new.mode or AUTO
        began_us = status.mode_time_us if mode == status.mode else now_us
        status = replace(status, mode=mode, mode_time_us=began_us, mode_until_us=0)
    if "mode_until" in paths:
        status = replace(status, mode_until_us=until["mode_until"])
    if "text" in paths:
        status = replace(status, text=new.text, text_until_us=0)
    if "text_until" in paths:
        status = replace(status, text_until_us=until["text_until"])
    if status.mode == AUTO:
        status = replace(status, mode_until_us=0)  # there is nothing to go back from
    return status


def _user() -> Caller:
    caller = current_caller()
    if not caller.user_id:
        raise Refusal(
            "USER_REQUIRED",
            "an API key calls this on behalf of a user: name them in the metadata "
            '"chinwag-on-behalf-of"',
        )
    return caller


def _unavailable(error: Unavailable) -> Refusal:
    return Refusal("STORAGE_UNAVAILABLE", str(error), retry_after=1.0)
