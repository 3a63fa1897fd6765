"""What kind of trouble a seed makes: drawn from the seed, or asked for by a tooth."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.simulation.replicas import Faults

# What may be done to the mesh, by the method of `Troubles`, as often as it stands there.
_STORM = ("kill", "pause", "pause", "replica", "no_etcd", "no_tables")
TROUBLES: dict[str, tuple[str, ...]] = {
    # Nodes die and pause where it hurts most.
    "storm": _STORM,
    # Many entries are under way, some land, and owners follow one another quickly.
    "ambushed": ("kill", "pause", "no_etcd", "no_etcd", "no_tables"),
    # Nodes are drained, restarted one after the other, and disturbed in the midst of it.
    "rolling": ("drain", "drain", "restart", "restart", "pause", "pause", "kill", "no_etcd"),
    # etcd is restored from an older copy.
    "restored": ("restore", "restore", "kill", "pause", "no_etcd"),
    # Less is kept in memory than is used, and all spans are short.
    "crowded": (*_STORM, "drain"),
    # A replica is away for long, writes land very late and twice, people retry much later.
    "late": ("replica_long", "kill", "kill", "pause", "no_tables", "drain"),
}
NAMES = tuple(TROUBLES)
PLENTY = 100_000


@dataclass(slots=True, frozen=True)
class Limits:
    """The sequencer's spans: the real ones would never end in a short run."""

    bucket: int = 1000
    window: int = 128
    hint_every: int = 200
    page: int = 250


SMALL = Limits(bucket=7, window=5, hint_every=4, page=3)


@dataclass(slots=True)
class Flavour:
    """What a run is like.

    Attributes:
        unrest_s: Between two troubles.
        pace: Of people: rounds a second.
        ambush: The chance that a write of entries, or of their rows, is met by trouble.
        put_off: The chance that a send without an answer is repeated much later only.
        max_open: Channels that a node's store keeps open, and its room in memory.
    """

    name: str
    faults: Faults
    unrest_s: float
    pace: float
    ambush: float
    put_off: float = 0.1
    max_open: int = PLENTY
    limits: Limits = field(default_factory=Limits)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What may happen."""
        return TROUBLES[self.name]


def draw(rng: random.Random, name: str = "") -> Flavour:
    """A seed's flavour.

    Args:
        name: One of NAMES; "" draws one.
    """
    drawn = rng.choice(NAMES)
    flavour = Flavour(
        name or drawn,
        Faults(
            late=rng.choice((0, 0.3, 0.6)),
            late_s=rng.choice((2.0, 20.0, 40.0)),
            lost=rng.choice((0, 0.1, 0.25)),
            no_ack=rng.choice((0, 0.02, 0.15)),
            repair=rng.choice((0, 0.5, 1)),
            twice=rng.choice((0, 0, 0.1)),
            # The slower, the more is under way when somebody stops.
            delay_s=rng.choice((0.002, 0.05, 0.2)),
        ),
        unrest_s=rng.choice((1.5, 4.0, 10.0)),
        pace=rng.choice((0.5, 2.0, 5.0)),
        ambush=rng.choice((0, 0.03, 0.1)),
        limits=rng.choice((Limits(), SMALL)),
    )
    if flavour.name == "crowded":
        flavour.max_open = 1
        flavour.limits = SMALL
    elif flavour.name == "late":
        flavour.put_off = 0.5
        flavour.faults.late_s = 40.0
        flavour.faults.twice = 0.3
    elif flavour.name == "ambushed":
        flavour.faults.late, flavour.faults.late_s = 0.6, rng.choice((2.0, 10.0))
        flavour.faults.delay_s = max(flavour.faults.delay_s, 0.05)
        flavour.unrest_s, flavour.pace = 1.5, 5.0
        flavour.ambush, flavour.put_off = 0.15, 0.5
    elif flavour.name == "rolling":
        flavour.unrest_s = min(flavour.unrest_s, 4.0)
    elif flavour.name == "restored":
        # What an owner left behind lands when its epoch has come again.
        flavour.faults.late, flavour.faults.late_s = 0.6, rng.choice((10.0, 20.0))
        flavour.faults.delay_s = max(flavour.faults.delay_s, 0.05)
        flavour.unrest_s, flavour.pace, flavour.ambush = 4.0, 5.0, 0.1
    return flavour
