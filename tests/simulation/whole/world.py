"""One run with whole nodes: what is between them, and the connections of devices."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tests.simulation.whole.connection import Connection
from tests.simulation.whole.node import WholeNode
from tests.simulation.whole.shared import Links, Redis, Weather
from tests.simulation.world import Node, World


class WholeWorld(World):
    """Everything that one seed decides.

    Args:
        direct_members: See `FanoutLimits`.
        bounds: Of `World`.

    Attributes:
        connections: Of devices, those that either side has open.
    """

    def __init__(self, seed: int, *, direct_members: int, **bounds: Any) -> None:
        super().__init__(seed, nodes=0, **bounds)
        self.direct_members = direct_members
        self.weather = Weather()
        own = random.Random(f"between {seed}")
        self.links = Links(self.loop, own, self.weather)
        self.network = self.links.network()
        self.redis = Redis(self.loop, own, self.weather)
        self.connections: dict[Connection, None] = {}
        self.wholes = [WholeNode(self, f"node{number}") for number in range(1, 4)]
        self.nodes: Sequence[Node] = self.wholes

    def node(self, name: str) -> WholeNode:
        """By its name."""
        return next(node for node in self.wholes if node.name == name)
