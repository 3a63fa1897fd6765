"""How connections move while nodes are drained and started again, one after the other."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.faults.check import Broken
from tests.faults.stage import POLL_S, QUIET_S, Stage

# Of connections that move one by one, none two together but by chance.
WINDOW_S = 0.5


@dataclass(slots=True, frozen=True)
class Moves:
    """What one restart moved.

    Attributes:
        held: How many connections the node had when it was told to end.
        times: When each connection moved, in order.
        most: How often one device's did, at most.
    """

    held: int
    times: list[float]
    most: int

    @property
    def span_s(self) -> float:
        """From the first to the last."""
        return self.times[-1] - self.times[0] if self.times else 0.0

    @property
    def crowded(self) -> int:
        """How many moved at most within a short time."""
        return max(
            (sum(at <= other < at + WINDOW_S for other in self.times) for at in self.times),
            default=0,
        )

    def __str__(self) -> str:
        return (
            f"{len(self.times)} of its {self.held} connections moved, each at most {self.most} "
            f"times, over {self.span_s:.2f} s, at most {self.crowded} within {WINDOW_S:g} s"
        )


async def restart(stage: Stage, number: int) -> Moves:
    """Restarts a node, and waits until all are back.

    Raises:
        Broken: Not all are.
    """
    await all_live(stage)
    node, devices = stage.mesh.nodes[number], stage.crowd.devices
    held = int(await asyncio.to_thread(node.metric, "chinwag_streams"))
    before = {device: len(device.seen.closes) for device in devices}
    await stage.mesh.restart_node(number)
    await all_live(stage)
    closes = {device: device.seen.closes[before[device] :] for device in devices}
    return Moves(
        held,
        sorted(at for times in closes.values() for at in times),
        max(len(times) for times in closes.values()),
    )


async def all_live(stage: Stage) -> None:
    """Waits until each device is caught up at a node, and the nodes count the same.

    Raises:
        Broken: That does not come.
    """
    until = time.monotonic() + QUIET_S
    devices, nodes = stage.crowd.devices, stage.mesh.nodes
    while True:
        away = [f"{device.user_id}/{device.name}" for device in devices if not device.is_live]
        # A node may hold the end of a connection that has moved.
        streams = [int(await asyncio.to_thread(n.metric, "chinwag_streams")) for n in nodes]
        if not away and sum(streams) == len(devices):
            return
        if time.monotonic() > until:
            raise Broken(f"{away} are not back; nodes have {streams} of {len(devices)}")
        await asyncio.sleep(POLL_S)
