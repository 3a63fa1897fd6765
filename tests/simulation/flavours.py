"""What kind of trouble a seed makes: drawn from the seed, or asked for by a tooth."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from chinwag_server.chat.sequenced import schema
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
# What no seed draws: each makes one thing often that hardly ever happens by itself, so that the
# rule against it is missed soon when it is taken out (`teeth`).
AIMED: dict[str, tuple[str, ...]] = {
    # Entries are written late, when their owner is dead: phantoms, with rows that tell of them.
    "phantoms": ("kill", "no_etcd"),
    # And few people, so that what comes next is not written over them; of that the next owner dies.
    "alone": ("kill",),
    # One replica has an entry, and its owner dies of it.
    "torn": ("kill",),
    # And of rows that tell of entries.
    "torn_rows": ("kill",),
    # Entries are there, and nothing that follows from them.
    "cut_short": ("kill",),
    # And their owner is there again at once.
    "reborn": ("kill",),
    # An owner stands still while its entries land late.
    "stalled": ("pause",),
    # Owners do not reach etcd for longer than their leases last.
    "adrift": ("no_etcd",),
    # Much is to be taken over, in many steps.
    "long_ends": ("kill", "kill", "pause", "no_tables"),
    # etcd is restored with its leases, and who did not reach it meanwhile does again.
    "revived": ("restore",),
    # etcd is restored, and counts once more to the revision of an epoch that was there.
    "repeated": ("repeat",),
    # Who stood still for long goes on, and the owner that followed does not reach etcd.
    "woken": ("wake",),
    # Who hands all over does not reach etcd in the midst of it.
    "leaving": ("leave",),
}
PLENTY = 100_000
CALL_S = 1.5


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
        ambushed: Tables of which writes are met by it.
        withheld: How many replicas such a write may fail to reach in time.
        stops: What happens to its owner.
        stop_s: After what time, from and to; None: about as long as a message travels.
        alone: What may become of a node that etcd was saved with (see `Troubles`).
        with_leases: The chance that etcd is restored with its leases.
        people: Who chats, each with two devices.
        call_s: For how long they wait for an answer.
        away_s: For how long who was killed is away, from and to.
        repeats: The chance that who has something unfinished goes on with it first.
    """

    name: str
    faults: Faults
    unrest_s: float
    pace: float
    ambush: float
    put_off: float = 0.1
    max_open: int = PLENTY
    limits: Limits = field(default_factory=Limits)
    ambushed: tuple[str, ...] = (schema.ENTRIES.name, schema.SENDS.name)
    withheld: tuple[int, ...] = (0, 1, 2, 3)
    stops: tuple[str, ...] = ("kill", "pause")
    stop_s: tuple[float, float] | None = None
    alone: tuple[str, ...] = ("cut off", "paused", "killed", "as before")
    with_leases: float = 0.5
    people: tuple[str, ...] = ("ann", "bob", "cid")
    call_s: float = CALL_S
    away_s: tuple[float, float] = (0.05, 4)
    repeats: float = 0.25

    @property
    def troubles(self) -> tuple[str, ...]:
        """What may happen."""
        return (TROUBLES | AIMED)[self.name]


def draw(rng: random.Random, name: str = "") -> Flavour:
    """A seed's flavour.

    Args:
        name: One of NAMES, or of AIMED; "" draws one of NAMES.
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
    elif flavour.name in AIMED:
        _aim(flavour, rng)
    return flavour


def _aim(flavour: Flavour, rng: random.Random) -> None:
    """Nothing but what one thing needs, and that often."""
    flavour.faults = Faults(late_s=6.0, delay_s=0.02)
    flavour.unrest_s, flavour.pace, flavour.ambush = 2.5, 5.0, 0.0
    entries = (schema.ENTRIES.name,)
    if flavour.name in ("phantoms", "alone", "torn", "torn_rows", "cut_short", "stalled", "reborn"):
        flavour.ambush, flavour.ambushed, flavour.withheld = 0.05, entries, (3,)
        flavour.stops, flavour.put_off = ("kill",), 0.5
    if flavour.name == "alone":
        flavour.people, flavour.pace, flavour.unrest_s = ("ann",), 2.0, 15.0
        flavour.put_off, flavour.repeats, flavour.faults.late_s = 1.0, 0.8, 10.0
    elif flavour.name == "torn":
        flavour.withheld, flavour.stop_s, flavour.faults.repair = (2,), (0.2, 1.5), 0.0
    elif flavour.name == "torn_rows":
        flavour.withheld, flavour.ambushed = (2,), (schema.SENDS.name,)
        flavour.stop_s, flavour.faults.repair = (0.1, 0.5), 0.0
    elif flavour.name == "cut_short":
        flavour.withheld = (0,)
    elif flavour.name == "stalled":
        flavour.stops, flavour.faults.late_s, flavour.call_s = ("pause_long",), 6.0, 15.0
    elif flavour.name == "reborn":
        flavour.ambush, flavour.faults.late_s, flavour.away_s = 0.1, 2.5, (0.05, 0.2)
    elif flavour.name == "adrift":
        flavour.unrest_s = 1.5
    elif flavour.name == "long_ends":
        flavour.limits = Limits(bucket=3, window=5, hint_every=40, page=3)
        flavour.faults.delay_s, flavour.unrest_s = 0.05, 1.5
    elif flavour.name == "revived":
        flavour.alone, flavour.with_leases, flavour.pace = ("cut off",), 1.0, 1.0
    elif flavour.name == "repeated":
        flavour.faults.late_s = 20.0
    elif flavour.name == "leaving":
        flavour.faults.late, flavour.faults.late_s = 0.5, rng.choice((1.5, 3.0))
        flavour.call_s = 6.0
