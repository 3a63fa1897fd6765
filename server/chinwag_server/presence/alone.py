"""`ports.States` of a node that is alone: its own devices are all there are."""

from __future__ import annotations

from collections.abc import Callable, Collection

from chinwag_server.presence.devices import Devices
from chinwag_server.presence.ports import Undo
from chinwag_server.presence.states import Connected


class AloneStates:
    """The states of one process."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self.on_change: Callable[[str], None] = lambda _user_id: None
        devices.on_change = lambda user_id: self.on_change(user_id)  # noqa: PLW0108 - it is set later

    async def of(self, user_ids: Collection[str]) -> dict[str, Connected]:
        return {user_id: self._devices.of(user_id) for user_id in user_ids}

    def watch(self, user_id: str) -> Undo:
        return lambda: None
