"""All open Watch streams of a node."""

from __future__ import annotations

from typing import Any

from chinwag_server.account.watch import Watchers
from chinwag_server.account.watch_stream import WatchLimits, WatchStream
from chinwag_server.clock import Clock
from chinwag_server.rpc.caller import Caller
from chinwag_server.rpc.framed_streams import FramedStreams


class WatchStreams(FramedStreams[WatchLimits]):
    """The open streams; the rest is as of all framed streams."""

    def __init__(self, watchers: Watchers, clock: Clock, **rest: Any) -> None:
        super().__init__(clock, **rest)
        self.watchers = watchers

    def make(self, caller: Caller) -> WatchStream:
        return WatchStream(caller, self)
