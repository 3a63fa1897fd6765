"""Hostile peers against a running server, each while 200 honest devices chat."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.wire.hostile import attacks
from tests.wire.hostile import peer as h2
from tests.wire.hostile.attacks import CALM, Aim, Attack, Endings, flooding, repeated
from tests.wire.hostile.stage import STALL_MS, Stage, until_not_slow

SHORT_S = 2.0
LONG_S = 10.0
# Until all bombs of a connection are on their way.
BOMBS_S = 3.0
# Until what waits for a reader is given up: the setting, and ticks of the clock of a busy server.
STALLED_S = STALL_MS / 1000 + 4.0
# What the server does not let one choose, and then a tick.
HANDSHAKE_S = 10.0 + 2.0
FRAME_S = 20.0 + 2.0


@dataclass(frozen=True)
class Case:
    """An attack, and what must become of its connections.

    Attributes:
        endings: How they may end.
        at_least_s: Whatever the form, it takes so long.
        long: How they may end in the long form, if that is different.
    """

    attack: Attack
    endings: tuple[str, ...] = (CALM,)
    at_least_s: float = 0.0
    long: tuple[str, ...] = ()
    long_s: float = LONG_S


PING = h2.frame(h2.PING, 0, 0, bytes(8))
PRIORITY = h2.frame(h2.PRIORITY, 0, 1, attacks.PRIORITY_OF_5)
CASES = {
    "rapid_reset": Case(flooding(attacks.rapid_reset)),
    "made_reset": Case(flooding(attacks.made_reset)),
    "continuation": Case(flooding(attacks.continuation(100))),
    "empty_continuation": Case(flooding(attacks.continuation(0))),
    "hpack_bomb": Case(flooding(attacks.hpack_bomb)),
    "long_headers": Case(flooding(attacks.long_headers)),
    "ping": Case(flooding(repeated(PING))),
    "ping_ack": Case(flooding(repeated(h2.frame(h2.PING, h2.ACK, 0, bytes(8))))),
    "settings": Case(flooding(repeated(h2.settings()))),
    "settings_ack": Case(flooding(repeated(h2.frame(h2.SETTINGS, h2.ACK, 0)))),
    "wide_settings": Case(flooding(attacks.wide_settings), endings=(CALM, "open")),
    "empty_data": Case(flooding(attacks.empty_data)),
    "priority": Case(flooding(repeated(PRIORITY))),
    "window_update": Case(flooding(repeated(h2.window_update(0, 1)))),
    "unknown_frames": Case(flooding(repeated(h2.frame(0x77, 0, 0)))),
    "refused_calls": Case(flooding(attacks.refused_calls), endings=(CALM, "open")),
    "gzip_bombs_of_nobody": Case(
        # They are refused before anything is inflated, which costs too little to be a flood.
        flooding(attacks.gzip_bombs(token=False)),
        endings=(CALM, "open"),
        at_least_s=BOMBS_S,
    ),
    "gzip_bombs_of_members": Case(
        flooding(attacks.gzip_bombs(token=True)), endings=(CALM, "open"), at_least_s=BOMBS_S
    ),
    "tiny_windows": Case(attacks.tiny_windows),
    "crumbs": Case(flooding(attacks.crumbs)),
    "big_answers": Case(
        attacks.big_answers,
        # Calls that come when too much waits already are refused before their request is whole.
        endings=(CALM, f"stream {CALM}", f"stream {CALM}/NO_ERROR"),
        at_least_s=STALLED_S,
    ),
    "never_reading": Case(
        attacks.never_reading,
        # Those who gave a large window, and to whom little is owed, have it in their sockets.
        endings=("open", "closed", f"stream {CALM}"),
        at_least_s=STALLED_S,
    ),
    "slow_bytes": Case(
        # Short frames are whole in time even so; the long one is not.
        attacks.slow_bytes,
        endings=("open",),
        long=("open", CALM),
        long_s=FRAME_S,
    ),
    "half_open": Case(
        attacks.half_open, endings=("open",), long=("SETTINGS_TIMEOUT",), long_s=HANDSHAKE_S
    ),
}


async def against(stage: Stage, case: Case, seconds: float) -> Endings:
    """Attacks, and asserts that nobody was harmed."""

    async def once() -> Endings:
        async with stage.watched():
            aim = Aim(stage.port, stage.people, max(seconds, case.at_least_s))
            endings = await case.attack(aim)
            print(f"\n    {dict(endings)}", end="")
        return endings

    return await until_not_slow(once)


def assert_ended(name: str, stage: Stage, endings: Endings, allowed: tuple[str, ...]) -> None:
    """All connections have ended as they must."""
    assert endings, "no connection came to its end"
    assert set(endings) <= set(allowed), endings
    if name == "never_reading":
        loud, quiet = len(stage.people.loud) // 2, len(stage.people.hostile) // 2
        assert endings == {f"stream {CALM}": loud + quiet, "closed": loud, "open": quiet}
    if CALM in allowed and name == "slow_bytes":
        assert endings[CALM] == attacks.SLOW // 3


@pytest.mark.parametrize("name", CASES)
async def test_honest_people_do_not_notice(stage: Stage, name: str) -> None:
    case = CASES[name]
    endings = await against(stage, case, SHORT_S)
    assert_ended(name, stage, endings, case.endings)


@pytest.mark.soak
@pytest.mark.parametrize("name", CASES)
async def test_nor_do_they_in_the_long_form(stage: Stage, name: str) -> None:
    case = CASES[name]
    endings = await against(stage, case, case.long_s)
    assert_ended(name, stage, endings, case.long or case.endings)
