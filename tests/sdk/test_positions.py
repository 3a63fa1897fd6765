"""Dense, in order, once: what the core does with each kind of event."""

from __future__ import annotations

import pytest

from chinwag import events as ev
from chinwag import positions as under_test
from chinwag.chat.v1 import channel_pb2, entry_pb2
from chinwag.positions import Positions

Reset = entry_pb2.ChannelReset


def entry(entry_id: int, channel: str = "c") -> entry_pb2.Event:
    made = entry_pb2.Entry(channel_id=channel, id=entry_id)
    made.message_sent.content.text = str(entry_id)
    return entry_pb2.Event(entry=made)


def gap(first: int, last: int) -> entry_pb2.Event:
    return entry_pb2.Event(gap=entry_pb2.Gap(channel_id="c", from_id=first, to_id=last))


def opened(start_id: int, kind: int = channel_pb2.CHANNEL_KIND_GROUP) -> entry_pb2.Event:
    channel = channel_pb2.Channel(id="c", generation=1, kind=kind)  # type: ignore[arg-type]
    return entry_pb2.Event(opened=entry_pb2.ChannelOpened(channel=channel, start_id=start_id))


def reset(reason: Reset.Reason.ValueType, start_id: int = 0) -> entry_pb2.Event:
    made = Reset(channel_id="c", reason=reason, generation=2, start_id=start_id)
    return entry_pb2.Event(reset=made)


def seen(positions: Positions) -> list[int]:
    ids = [event.entry.id for event in positions.out if isinstance(event, ev.EntryEvent)]
    positions.out.clear()
    return ids


@pytest.fixture
def positions() -> Positions:
    return Positions([ev.Cursor("c", 1, 10)])


def test_the_next_entries(positions: Positions) -> None:
    positions.take(entry(11))
    positions.take(entry(12))
    assert seen(positions) == [11, 12]
    assert positions.cursor("c") == ev.Cursor("c", 1, 12)


def test_repeats_are_dropped(positions: Positions) -> None:
    for entry_id in (10, 11, 11, 3, 12):
        positions.take(entry(entry_id))
    assert seen(positions) == [11, 12]


def test_nothing_after_a_hole_until_it_is_fetched(positions: Positions) -> None:
    positions.take(entry(13))
    positions.take(entry(14))
    assert seen(positions) == []
    assert not positions.complete
    (fetch,) = positions.fetches
    assert fetch.cursor == ev.Cursor("c", 1, 10)
    positions.fetched(fetch.number, [entry(11), entry(12), entry(13)], has_more=False)
    assert seen(positions) == [11, 12, 13, 14]
    assert positions.complete


def test_a_fetch_in_pages(positions: Positions) -> None:
    positions.take(entry(14))
    positions.fetched(positions.fetches.pop().number, [entry(11), entry(12)], has_more=True)
    assert seen(positions) == [11, 12]
    (fetch,) = positions.fetches
    assert fetch.cursor.id == 12
    positions.fetched(fetch.number, [entry(13), entry(14)], has_more=False)
    assert seen(positions) == [13, 14]


def test_a_hole_within_what_waits(positions: Positions) -> None:
    for entry_id in (12, 15):
        positions.take(entry(entry_id))
    positions.fetched(positions.fetches.pop().number, [entry(11)], has_more=False)
    assert seen(positions) == [11, 12]
    positions.fetched(positions.fetches.pop().number, [entry(13), entry(14)], has_more=False)
    assert seen(positions) == [13, 14, 15]


def test_other_channels_go_on() -> None:
    positions = Positions([ev.Cursor("c", 1, 10), ev.Cursor("d", 1, 0)])
    positions.take(entry(13))
    positions.take(entry(1, "d"))
    assert seen(positions) == [1]


def test_too_much_behind_a_hole_is_fetched_again(
    positions: Positions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "MAX_HELD", 3)
    for entry_id in range(12, 20):
        positions.take(entry(entry_id))
    positions.fetched(positions.fetches.pop().number, map(entry, range(11, 14)), has_more=False)
    assert seen(positions) == [11, 12, 13]
    positions.fetched(positions.fetches.pop().number, map(entry, range(14, 20)), has_more=False)
    assert seen(positions) == [14, 15, 16, 17, 18, 19]
    assert positions.complete


def test_a_hole_that_no_fetch_fills(positions: Positions) -> None:
    positions.take(entry(13))
    stuck = []
    for _ in range(under_test.MAX_FRUITLESS):
        positions.fetched(positions.fetches.pop().number, [], has_more=False)
        stuck.append(positions.stuck)
    assert stuck == [False] * (under_test.MAX_FRUITLESS - 1) + [True]
    positions.connection_lost()
    assert positions.complete
    assert (positions.stuck, seen(positions)) == (False, [])
    positions.take(entry(11))
    assert seen(positions) == [11]


def test_nothing_is_handed_out_of_an_unfilled_hole(positions: Positions) -> None:
    positions.take(entry(13))
    positions.connection_lost()
    assert seen(positions) == []


def test_an_answer_of_an_earlier_connection(positions: Positions) -> None:
    positions.take(entry(13))
    fetch = positions.fetches.pop()
    positions.connection_lost()
    positions.fetched(fetch.number, [entry(11), entry(12)], has_more=False)
    assert seen(positions) == []
    positions.take(entry(11))
    assert seen(positions) == [11]


def test_a_gap_is_no_hole(positions: Positions) -> None:
    positions.take(gap(11, 15))
    positions.take(entry(16))
    told = positions.out[0]
    assert isinstance(told, ev.GapSeen)
    assert (told.from_id, told.to_id, told.cursor.id) == (11, 15, 15)
    assert seen(positions) == [16]


def test_a_gap_that_overlaps(positions: Positions) -> None:
    positions.take(gap(8, 12))
    told = positions.out.pop()
    assert isinstance(told, ev.GapSeen)
    assert (told.from_id, told.to_id) == (11, 12)
    positions.take(gap(5, 9))
    assert positions.out == []


def test_a_gap_behind_a_hole(positions: Positions) -> None:
    positions.take(gap(13, 15))
    assert positions.out == []
    positions.fetched(positions.fetches.pop().number, [entry(11), entry(12)], has_more=False)
    assert [type(event) for event in positions.out] == [
        ev.MessageReceived,
        ev.MessageReceived,
        ev.GapSeen,
    ]


def test_a_channel_opens() -> None:
    positions = Positions()
    positions.take(opened(5))
    positions.take(entry(6))
    assert isinstance(positions.out[0], ev.ChannelOpened)
    assert seen(positions) == [6]


def test_opened_again(positions: Positions) -> None:
    positions.take(opened(8))  # a repeat: 9 and 10 were handed out
    assert positions.out == []
    positions.take(opened(20))  # back after a stay elsewhere
    positions.take(entry(21))
    assert seen(positions) == [21]


def test_an_entry_of_a_channel_that_was_never_opened() -> None:
    positions = Positions()
    positions.take(entry(7))
    assert positions.out == []
    (fetch,) = positions.fetches
    assert fetch.cursor == ev.Cursor("c", 0, 0)
    positions.fetched(fetch.number, [reset(Reset.REASON_GENERATION, 6)], has_more=False)
    assert isinstance(positions.out[0], ev.ChannelReset)
    assert seen(positions) == [7]
    assert positions.cursor("c") == ev.Cursor("c", 2, 7)


@pytest.mark.parametrize(
    "reason",
    [Reset.REASON_GENERATION, Reset.REASON_BEYOND_HEAD, Reset.REASON_TOO_FAR_BEHIND],
)
def test_a_reset_starts_anew(positions: Positions, reason: Reset.Reason.ValueType) -> None:
    positions.take(reset(reason, 3))
    told = positions.out[0]
    assert isinstance(told, ev.ChannelReset)
    assert told.reason == Reset.Reason.Name(reason).removeprefix("REASON_")
    assert told.cursor == ev.Cursor("c", 2, 3)
    positions.take(entry(4))
    assert seen(positions) == [4]


def test_a_channel_that_is_gone(positions: Positions) -> None:
    positions.take(entry(13))
    positions.take(reset(Reset.REASON_NOT_VISIBLE))
    assert positions.cursor("c") is None
    assert positions.complete
    assert positions.fetches == []
    told = positions.out[0]
    assert isinstance(told, ev.ChannelReset)
    assert told.cursor is None


def test_broadcast_channels_are_named_only_while_looked_at() -> None:
    positions = Positions()
    positions.take(opened(5, channel_pb2.CHANNEL_KIND_BROADCAST))
    assert positions.cursors() == []
    assert positions.look(ev.Cursor("c", 1, 9)) == ev.Cursor("c", 1, 9)
    assert positions.look(ev.Cursor("c", 1, 20)) == ev.Cursor("c", 1, 9)
    assert positions.cursors() == [ev.Cursor("c", 1, 9)]


def test_an_unknown_kind_moves_the_cursor(positions: Positions) -> None:
    strange = entry_pb2.Event(entry=entry_pb2.Entry(channel_id="c", id=11))
    positions.take(strange)
    assert isinstance(positions.out[0], ev.Unknown)
    positions.take(entry_pb2.Event())  # an unknown kind of event is passed over
    positions.take(entry(12))
    assert seen(positions) == [11, 12]
