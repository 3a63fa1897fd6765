"""What kind of trouble a seed of whole nodes makes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.simulation.flavours import PLENTY, SMALL, Flavour, Limits
from tests.simulation.replicas import Faults
from tests.simulation.whole.shared import Weather

_DEVICES = ("break_off", "break_off", "move", "crash")
# By the method of `WholeTroubles`, as often as it stands there.
TROUBLES: dict[str, tuple[str, ...]] = {
    # A bit of everything.
    "mixture": (*_DEVICES, "kill", "pause", "no_etcd", "link_cut", "wipe", "away", "restart"),
    # The network between nodes comes and goes, and lasts only at times.
    "links": (*_DEVICES, "link_cut", "link_cut", "link_out", "link_out", "link_slow", "no_bus"),
    # Redis is lost, away, or out of reach of some nodes.
    "redis": (*_DEVICES, "wipe", "wipe", "away", "no_redis", "no_redis", "fail_over", "no_bus"),
    # Nodes die, stand still for longer than anybody waits for them, and are restarted.
    "nodes": (*_DEVICES, "kill", "kill", "pause", "pause_long", "restart", "drain"),
    # Devices do not stay.
    "roaming": (*_DEVICES, *_DEVICES, *_DEVICES, "half_open", "half_open", "pause", "drain"),
}
NAMES = tuple(TROUBLES)
# What no seed draws: see `tests.simulation.flavours.AIMED`.
AIMED: dict[str, tuple[str, ...]] = {
    # Groups are made while devices are away, and Redis forgets them.
    "forgotten": ("break_off", "break_off", "break_off", "wipe"),
}


@dataclass(slots=True)
class WholeFlavour(Flavour):
    """What a run is like.

    Attributes:
        direct_members: See `FanoutLimits`: 0 publishes everything.
        max_made: So many groups more are made.
        since_joining: Who comes back to a group does not see what was said meanwhile.
    """

    weather: Weather = field(default_factory=Weather)
    direct_members: int = 20
    max_made: int = 4
    since_joining: bool = False

    @property
    def troubles(self) -> tuple[str, ...]:
        """What may happen."""
        return (TROUBLES | AIMED)[self.name]


def draw(rng: random.Random, name: str = "") -> WholeFlavour:
    """A seed's flavour.

    Args:
        name: One of NAMES, or of AIMED; "" draws one of NAMES.
    """
    drawn = rng.choice(NAMES)
    flavour = WholeFlavour(
        name or drawn,
        # The tables are the other form's: here they only take their time, or fail now and then.
        Faults(lost=rng.choice((0, 0, 0.05)), delay_s=rng.choice((0.002, 0.02))),
        unrest_s=rng.choice((0.7, 1.5, 4.0)),
        pace=rng.choice((0.3, 1.0, 2.0)),
        ambush=rng.choice((0, 0.03)),
        max_open=rng.choice((PLENTY, PLENTY, 1)),
        limits=rng.choice((Limits(), SMALL)),
        weather=Weather(
            link_s=rng.choice((0.001, 0.02, 0.1)),
            breaks=rng.choice((0, 0, 0.02)),
            bus_lost=rng.choice((0, 0.1, 0.4)),
            no_answer=rng.choice((0, 0, 0.05)),
        ),
        direct_members=rng.choice((20, 20, 0)),
        since_joining=rng.random() < 0.7,
    )
    if flavour.name == "forgotten":
        flavour.weather, flavour.faults = Weather(), Faults()
        flavour.unrest_s, flavour.pace, flavour.max_made = 0.4, 3.0, 20
    return flavour
