"""All open Track streams of a node."""

from __future__ import annotations

from typing import Any

from chinwag_server.clock import Clock
from chinwag_server.presence.devices import Devices
from chinwag_server.presence.track_stream import TrackLimits, TrackStream
from chinwag_server.presence.watching import Watching
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.framed_streams import FramedStreams


class TrackStreams(FramedStreams[TrackLimits]):
    """The open streams; the rest is as of all framed streams."""

    def __init__(self, watching: Watching, devices: Devices, clock: Clock, **rest: Any) -> None:
        super().__init__(clock, **rest)
        self.watching = watching
        self.devices = devices

    def make(self, caller: Caller) -> TrackStream:
        return TrackStream(caller, self)
