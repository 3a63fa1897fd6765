"""On which nodes users' devices are."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from chinwag_server.clock import Clock
from chinwag_server.mesh.sessions import Sessions
from chinwag_server.mesh.unavailable import Unavailable

log = logging.getLogger(__name__)

LOOK_UP_S = 1.0
# How long an answer does for what may be a moment old, how many are kept.
KEPT_S = 2.0
MAX_KEPT = 100_000
# How long a node that asked for a channel's head is told of its entries.
WATCH_S = 30.0
MAX_WATCHED = 200_000
# How long a node that cannot say where its users are is told everything, unless it says so again.
UNKNOWN_S = 5.0
# After a failed look-up nobody is looked up for so long: every node gets everything.
AWAY_S = 1.0


@dataclass(slots=True)
class Targets:
    """Where users are.

    Attributes:
        nodes: By user; None: it is not known, every node has to be told.
        everything: Nodes that get everything.
    """

    nodes: Mapping[str, Collection[str]] | None
    everything: Collection[str] = field(default=())

    def by_node(
        self, users: Collection[str] | None, all_nodes: Collection[str]
    ) -> dict[str, Collection[str]]:
        """The users on each node; of a channel that is looked at (None) nobody is known."""
        if users is None:
            return {}
        if self.nodes is None:
            return dict.fromkeys(all_nodes, users)
        found: dict[str, list[str]] = {}
        for user_id in users:
            for node_id in self.nodes.get(user_id, ()):
                found.setdefault(node_id, []).append(user_id)
        who: dict[str, Collection[str]] = {
            node_id: some for node_id, some in found.items() if node_id in all_nodes
        }
        for node_id in self.everything:
            if node_id in all_nodes:
                who[node_id] = users
        return who


class Whereabouts:
    """Asks the sessions, and remembers which nodes asked for which channels."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Collection[str]]] = OrderedDict()
        self._watched: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._subscribed: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._unknown: dict[str, float] = {}
        self._away_until = 0.0

    # --- users ---

    async def of(self, fresh: Collection[str], old: Collection[str]) -> Targets:
        """Where users are.

        Args:
            fresh: Of whom the answer is to be of now.
            old: Of whom it may be some seconds old.
        """
        now = self._clock.monotonic()
        everything = [node_id for node_id, until in self._unknown.items() if until > now]
        if now < self._away_until:
            return Targets(None, everything)
        found: dict[str, Collection[str]] = {}
        ask = set(fresh)
        for user_id in old:
            kept = self._kept.get(user_id)
            if kept is not None and now - kept[0] < KEPT_S:
                found[user_id] = kept[1]
            else:
                ask.add(user_id)
        if ask:
            try:
                async with asyncio.timeout(LOOK_UP_S):
                    answer = await self._sessions.nodes_of(ask)
            except (Unavailable, TimeoutError) as error:
                log.warning("who is where cannot be asked, every node is told: %s", error)
                self._away_until = self._clock.monotonic() + AWAY_S
                return Targets(None, everything)
            for user_id in ask:
                nodes = answer.get(user_id, ())
                found[user_id] = nodes
                self._kept[user_id] = (now, nodes)
                self._kept.move_to_end(user_id)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return Targets(found, everything)

    # --- nodes ---

    def unknown(self, node_id: str, is_unknown: bool) -> None:
        """A node cannot say where its users are, or it can again."""
        if is_unknown:
            self._unknown[node_id] = self._clock.monotonic() + UNKNOWN_S
        else:
            self._unknown.pop(node_id, None)

    def watch(self, channel_id: str, node_id: str) -> None:
        """A node asked for a channel's head: it is told of what follows."""
        self._remember(self._watched, channel_id, node_id)

    def watching(self, channel_id: str) -> list[str]:
        """The nodes that asked a moment ago."""
        return self._lasting(self._watched, channel_id)

    def subscribe(self, channel_id: str, node_id: str) -> None:
        """A node hears what is published of a channel."""
        self._remember(self._subscribed, channel_id, node_id)

    def subscribed(self, channel_id: str) -> set[str]:
        """The nodes that hear it."""
        return set(self._lasting(self._subscribed, channel_id))

    def _remember(
        self, kept: OrderedDict[str, dict[str, float]], channel_id: str, node_id: str
    ) -> None:
        kept.setdefault(channel_id, {})[node_id] = self._clock.monotonic() + WATCH_S
        kept.move_to_end(channel_id)
        while len(kept) > MAX_WATCHED:
            kept.popitem(last=False)

    def _lasting(self, kept: OrderedDict[str, dict[str, float]], channel_id: str) -> list[str]:
        nodes = kept.get(channel_id)
        if not nodes:
            return []
        now = self._clock.monotonic()
        for node_id in [node_id for node_id, until in nodes.items() if until <= now]:
            del nodes[node_id]
        if not nodes:
            del kept[channel_id]
        return list(nodes)
