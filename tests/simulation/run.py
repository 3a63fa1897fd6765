"""Runs seeds to their ends, with limits that are small enough for a short run."""

from __future__ import annotations

import gc
import logging
import random
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from chinwag_server.chat.sequenced import schema, sequencer, tail
from chinwag_server.chat.store import StoreUnavailable
from chinwag_server.mesh import ownership, shard_keys, shards
from chinwag_server.rpc.errors import Refusal
from tests.simulation.checker import Violation
from tests.simulation.flavours import Limits
from tests.simulation.loop import Stuck
from tests.simulation.scenario import Scenario
from tests.simulation.whole.flavours import AIMED as WHOLE_AIMED
from tests.simulation.whole.flavours import NAMES as WHOLE_NAMES
from tests.simulation.whole.scenario import WholeScenario
from tests.simulation.world import World

SHARDS = 4
REFUSED_RETRY_S = 3.0
UNTIL_S = 900.0
COLLECT_EVERY = 10
WHOLE = "whole"
BOTH = "both"
WHOLE_EVERY = 10


@dataclass(slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        violation: What it broke, None: nothing.
    """

    seed: int
    flavour: str
    violation: str | None
    history: list[str]
    acks: int = 0
    entries: int = 0
    steps: int = 0
    virtual_s: float = 0.0


def simulate(seeds: Iterable[int], flavour: str = "") -> Generator[Outcome, None, None]:
    """Runs seeds to their ends, one after the other.

    Args:
        flavour: Of all of them. "": each its own; WHOLE: each its own, with whole nodes; BOTH: each
            its own, and of WHOLE_EVERY seeds one with whole nodes.
    """
    with _quiet(), _few_shards():
        try:
            for number, seed in enumerate(seeds, 1):
                scenario = _scenario(seed, flavour)
                yield _run(scenario)
                # A whole node holds much.
                if number % COLLECT_EVERY == 0 or isinstance(scenario, WholeScenario):
                    del scenario
                    gc.collect()
        finally:
            gc.collect()


def _scenario(seed: int, flavour: str) -> Scenario | WholeScenario:
    if flavour == BOTH:
        flavour = "" if seed % WHOLE_EVERY else WHOLE
    if flavour == WHOLE:
        return WholeScenario(seed)
    if flavour in WHOLE_NAMES or flavour in WHOLE_AIMED:
        return WholeScenario(seed, flavour)
    return Scenario(seed, flavour)


def _run(scenario: Scenario | WholeScenario) -> Outcome:
    world = scenario.world
    random.seed(world.seed)  # for the jitter of those who draw from it
    violation = None
    try:
        with _limits(scenario.flavour.limits):
            world.loop.run(scenario.main(), until=UNTIL_S)
        _check_defects(world)
    except (Violation, Stuck, Refusal) as found:
        violation = f"{type(found).__name__}: {found}"
    return Outcome(
        world.seed,
        scenario.flavour.name,
        violation,
        world.history.lines,
        len(world.history.acked),
        scenario.entries,
        world.loop.steps,
        world.loop.now,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No logs, and what still waits in a run is thrown away between two runs only: what it does
    as it is closed would happen in another one."""
    logging.disable(logging.CRITICAL)
    # For good: some of it is thrown away when the process ends.
    sys.unraisablehook = lambda _unraisable: None
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


@contextmanager
def _few_shards() -> Iterator[None]:
    """A thousand shards would be a thousand times the same, and half a minute is long here."""
    with ExitStack() as stack:
        for module in (shards, shard_keys, ownership):
            stack.enter_context(mock.patch.object(module, "SHARDS", SHARDS))
        stack.enter_context(mock.patch.object(ownership, "REFUSED_RETRY_S", REFUSED_RETRY_S))
        shards._draws.cache_clear()
        try:
            yield
        finally:
            shards._draws.cache_clear()


@contextmanager
def _limits(limits: Limits) -> Iterator[None]:
    places: tuple[tuple[Any, str, int], ...] = (
        (schema, "BUCKET", limits.bucket),
        (tail, "WINDOW", limits.window),
        (tail, "PAGE", limits.page),
        (sequencer, "WINDOW", limits.window),
        (sequencer, "HINT_EVERY", limits.hint_every),
    )
    with ExitStack() as stack:
        for module, name, value in places:
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def _check_defects(world: World) -> None:
    for error in world.loop.errors:
        defect = error.get("exception")
        if isinstance(defect, Violation):
            raise defect
        if defect is not None and not isinstance(defect, StoreUnavailable | Refusal):
            raise Violation(f"a defect: {error.get('message')}: {defect!r}")
