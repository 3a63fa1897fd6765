"""Whose heads are repeated."""

from __future__ import annotations

from chinwag_server.chat.routed.recent import TURNS, Recent


def test_who_left_is_told_of_what_they_may_still_see() -> None:
    recent = Recent()
    recent.note("c", 7, ("ann", "bob"))
    recent.note("c", 8, ("ann",))  # bob was removed at 7
    assert [(s, h, set(users or ())) for s, h, users in recent.turn().values()] == [
        (6, 8, {"ann", "bob"})
    ]
    # As long as the entry lies within what is told, and no longer.
    told = []
    for number in range(9, 9 + 2 * TURNS):
        recent.note("c", number, ("ann",))
        told.append(recent.turn()["c"])
    for since_id, _, users in told:
        assert set(users or ()) == ({"ann", "bob"} if since_id < 7 else {"ann"})


def test_who_came_is_told_too() -> None:
    recent = Recent()
    recent.note("c", 1, ("ann",))
    recent.note("c", 2, ("ann", "bob"))
    assert set(recent.turn()["c"][2] or ()) == {"ann", "bob"}


def test_who_looks_stays_who_looks() -> None:
    recent = Recent()
    recent.note("c", 1, None)
    recent.note("c", 2, None)
    assert recent.turn() == {"c": (0, 2, None)}


def test_a_quiet_channel_is_forgotten() -> None:
    recent = Recent()
    recent.note("c", 1, ("ann",))
    for _ in range(TURNS):
        assert list(recent.turn()) == ["c"]
    assert recent.turn() == {}
