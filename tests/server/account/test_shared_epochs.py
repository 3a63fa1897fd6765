"""What is remembered of a store that others change too, and for how long."""

from __future__ import annotations

import random

import pytest

from chinwag_server.account.shared_epochs import SharedEpochs
from tests.server.account.clock import FakeClock

HOLD_S = 10.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def epochs(clock: FakeClock) -> SharedEpochs:
    return SharedEpochs(clock, hold_s=HOLD_S, size=100)


def audit(epochs: SharedEpochs, clock: FakeClock, version: int) -> None:
    asked = clock.monotonic()
    for subject in epochs.take_used():
        epochs.audit(subject, version, asked)


def test_it_holds_for_a_time(epochs: SharedEpochs, clock: FakeClock) -> None:
    epoch = epochs.of("ann")
    clock.advance(HOLD_S - 0.1)
    assert epochs.of("ann") == epoch
    clock.advance(0.1)
    assert epochs.of("ann") != epoch


def test_an_audit_makes_it_hold_longer(epochs: SharedEpochs, clock: FakeClock) -> None:
    epoch = epochs.of("ann")
    epochs.found("ann", epoch, 3)
    for _ in range(20):
        clock.advance(HOLD_S - 1)
        assert epochs.of("ann") == epoch
        audit(epochs, clock, version=3)
    audit(epochs, clock, version=4)  # it was not used since
    assert epochs.of("ann") == epoch
    audit(epochs, clock, version=4)
    assert epochs.of("ann") != epoch


def test_what_is_not_known_to_be_of_a_version_is_void(
    epochs: SharedEpochs, clock: FakeClock
) -> None:
    epoch = epochs.of("ann")
    audit(epochs, clock, version=3)
    assert epochs.of("ann") != epoch


def test_the_oldest_finding_counts(epochs: SharedEpochs, clock: FakeClock) -> None:
    epoch = epochs.of("ann")
    epochs.found("ann", epoch, 3)
    epochs.found("ann", epoch, 4)
    audit(epochs, clock, version=4)
    assert epochs.of("ann") != epoch


def test_a_change_that_is_heard_voids_it(epochs: SharedEpochs, clock: FakeClock) -> None:
    epoch = epochs.of("ann")
    other = epochs.of("bob")
    epochs.change("ann")
    assert epochs.of("ann") not in (epoch, other)
    assert epochs.of("bob") == other
    # What was found before it is not mistaken for what is found after it.
    epochs.found("ann", epoch, 3)
    newer = epochs.of("ann")
    epochs.audit("ann", 3, clock.monotonic())
    audit(epochs, clock, version=3)
    assert epochs.of("ann") != newer


def test_what_nobody_uses_is_forgotten(epochs: SharedEpochs, clock: FakeClock) -> None:
    for number in range(50):
        epochs.of(f"u{number}")
    clock.advance(HOLD_S)
    assert epochs.take_used() == []
    assert len(epochs) == 0
    for number in range(1000):
        epochs.of(f"u{number}")
    assert len(epochs) <= 100


@pytest.mark.parametrize("seed", range(200))
def test_nothing_old_is_served_for_longer(seed: int) -> None:
    """Commits, lookups, audits and news in any order, each with time between its steps."""
    rng = random.Random(seed)
    clock = FakeClock()
    epochs = SharedEpochs(clock, hold_s=HOLD_S)
    version = 1
    committed = {1: clock.monotonic()}  # when each version was
    remembered: tuple[int, int] | None = None  # (epoch, version of what was found)
    looking: list[tuple[int, int, int]] = []  # (epoch, version of the user, of what was found)
    auditing: list[tuple[int, float]] = []  # (version, asked)
    asking: list[float] = []
    for _ in range(300):
        match rng.randrange(8):
            case 0:
                clock.advance(rng.choice([0.1, 1, 4]))
            case 1:
                version += 1
                committed[version] = clock.monotonic()
                if rng.random() < 0.3:
                    epochs.change("ann")
            case 2:  # the user is read, then something else of theirs, later
                looking.append((epochs.of("ann"), version, 0))
            case 3 if looking:
                epoch, of_user, _ = looking.pop(rng.randrange(len(looking)))
                # Somewhere between the reading of the user and now.
                found = rng.randint(of_user, version)
                epochs.found("ann", epoch, of_user)
                remembered = epoch, found
            case 4:
                asking += [clock.monotonic() for _ in epochs.take_used()]
            case 5 if asking:
                auditing.append((version, asking.pop()))
            case 6 if auditing:
                seen, asked = auditing.pop(rng.randrange(len(auditing)))
                epochs.audit("ann", seen, asked)
            case _:
                if remembered is None or remembered[0] != epochs.of("ann"):
                    continue
                found = remembered[1]
                if found < version:
                    assert clock.monotonic() - committed[found + 1] < HOLD_S
