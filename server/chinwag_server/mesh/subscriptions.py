"""Who wants what of a bus: callbacks by topic, and callbacks for gaps."""

from __future__ import annotations

import logging
from collections.abc import Callable

from chinwag_server.mesh.bus import Received, Undo
from chinwag_server.observe.logs import describe

log = logging.getLogger(__name__)


class Subscriptions:
    """Callbacks by topic. One that fails is logged and harms no other."""

    def __init__(self) -> None:
        # Each of a topic's callbacks under a key of its own: the same may be there twice.
        self._topics: dict[str, dict[object, Received]] = {}

    def add(self, topic: str, received: Received, want: Callable[[bool], None]) -> Undo:
        """Adds a callback; `want` is told of a topic's first one, and of the end of its last."""
        callbacks = self._topics.setdefault(topic, {})
        key = object()
        callbacks[key] = received
        if len(callbacks) == 1:
            want(True)

        def remove() -> None:
            if callbacks.pop(key, None) is not None and not callbacks:
                del self._topics[topic]
                want(False)

        return remove

    def receive(self, topic: str, payload: bytes) -> None:
        """Calls the topic's callbacks."""
        for received in list(self._topics.get(topic, {}).values()):
            try:
                received(payload)
            except Exception as error:
                log.error("a subscriber failed: %s", describe(error))


class Callbacks:
    """Callbacks without arguments. One that fails is logged and harms no other."""

    def __init__(self) -> None:
        self._all: dict[object, Callable[[], None]] = {}

    def add(self, callback: Callable[[], None]) -> Undo:
        """Adds one."""
        key = object()
        self._all[key] = callback

        def remove() -> None:
            self._all.pop(key, None)

        return remove

    def call(self) -> None:
        """Calls all."""
        for callback in list(self._all.values()):
            try:
                callback()
            except Exception as error:
                log.error("a subscriber failed: %s", describe(error))
