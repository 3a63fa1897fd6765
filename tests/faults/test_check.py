"""The judge of recorded histories notices what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chinwag.chat.v1 import channel_pb2, entry_pb2
from tests.faults.check import Broken, Log, check_devices, check_logs, check_state
from tests.faults.history import (
    Edited,
    Entry,
    Gap,
    History,
    Item,
    Opened,
    Reset,
    Seen,
    Sent,
)

CHANNEL = "c"


def entries() -> list[entry_pb2.Entry]:
    """Made by ann, who says something; bob comes, goes at 5 and comes back at 7."""
    made = [entry_pb2.Entry(id=n, channel_id=CHANNEL, actor_id="ann") for n in range(1, 9)]
    made[0].channel_created.members.add(user_id="ann")
    for number, text in ((2, "one"), (4, "two"), (6, "secret")):
        made[number - 1].message_sent.content.text = text
        made[number - 1].message_sent.client_message_id = text
    made[2].members_added.members.add(user_id="bob")
    made[4].member_removed.user_id = "bob"
    made[6].members_added.members.add(user_id="bob")
    made[7].message_edited.message_id = 4
    made[7].message_edited.content.text = "two and a half"
    for entry, count in zip(made, (0, 1, 1, 2, 2, 3, 3, 3), strict=True):
        entry.timeline_count = count
        entry.create_time.FromSeconds(10 * entry.id)
    return made


def history() -> History:
    """As it should be."""
    log = entries()
    found = History(wall_s=0.0)
    for number, text in ((2, "one"), (4, "two"), (6, "secret")):
        sent = Sent(("ann", "d"), CHANNEL, text, text, 0.0, 1.0, number)
        found.sends["ann", text] = sent
    found.edits.append(Edited("ann", CHANNEL, 4, "two and a half", is_acked=True))
    items: list[Item] = [Entry(entry.id, entry.SerializeToString()) for entry in log]
    found.seen.append(Seen("ann", "d", {CHANNEL: [Opened(0), *items]}))
    bobs: list[Item] = [Opened(2), *items[2:5], Gap(6, 6), *items[6:]]
    found.seen.append(Seen("bob", "d", {CHANNEL: bobs}))
    return found


def judge(log: list[entry_pb2.Entry], found: History) -> None:
    logs = {CHANNEL: Log(CHANNEL, log)}
    check_logs(logs, found)
    check_devices(logs, found)


def test_all_is_well() -> None:
    judge(entries(), history())
    # Who comes back while a device is away is told that the channel opens again.
    again = history()
    again.seen[1].items[CHANNEL][4] = Opened(6)
    judge(entries(), again)


def refused(found: History, since: float, until: float, reason: str = "NOT_A_MEMBER") -> History:
    """Bob's send between two times."""
    sent = Sent(("bob", "d"), CHANNEL, "let me in", "let me in", since, until, refused=reason)
    found.sends["bob", sent.key] = sent
    return found


# He is a member from 30 to 50, and from 70 on.
@pytest.mark.parametrize(("since", "until"), [(20, 25), (25, 40), (40, 55), (55, 60), (40, 80)])
def test_who_is_out_is_refused(since: float, until: float) -> None:
    judge(entries(), refused(history(), since, until))


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [(35, 45, "NOT_A_MEMBER"), (75, 90, "NOT_A_MEMBER"), (55, 60, "SEND_EXPIRED")],
)
def test_nobody_else_is(since: float, until: float, reason: str) -> None:
    with pytest.raises(Broken, match="was refused"):
        judge(entries(), refused(history(), since, until, reason))


def lose_an_acked_send(log: list[entry_pb2.Entry], _found: History) -> None:
    log[3].message_sent.content.text = "other"


def store_twice(log: list[entry_pb2.Entry], found: History) -> None:
    log[5].message_sent.client_message_id = "two"
    del found.sends["ann", "secret"]


def leave_a_hole(log: list[entry_pb2.Entry], _found: History) -> None:
    del log[6]


def refuse_what_is_stored(_log: list[entry_pb2.Entry], found: History) -> None:
    sent = found.sends["ann", "two"]
    sent.message_id, sent.refused = 0, "NOT_A_MEMBER"


def say_what_nobody_said(_log: list[entry_pb2.Entry], found: History) -> None:
    del found.sends["ann", "one"]


def forget_an_edit(_log: list[entry_pb2.Entry], found: History) -> None:
    found.edits[0].text = "three"


def count_wrongly(log: list[entry_pb2.Entry], _found: History) -> None:
    log[7].timeline_count = 4


def show_a_secret(_log: list[entry_pb2.Entry], found: History) -> None:
    found.seen[1].items[CHANNEL][4] = found.seen[0].items[CHANNEL][6]


def skip_one(_log: list[entry_pb2.Entry], found: History) -> None:
    del found.seen[0].items[CHANNEL][3]


def show_twice(_log: list[entry_pb2.Entry], found: History) -> None:
    items = found.seen[0].items[CHANNEL]
    items.insert(3, items[2])


def lose_the_last(_log: list[entry_pb2.Entry], found: History) -> None:
    found.seen[1].items[CHANNEL].pop()


def lose_the_removal(_log: list[entry_pb2.Entry], found: History) -> None:
    items = found.seen[1].items[CHANNEL]
    items[3:5] = [Opened(6)]


def show_something_else(_log: list[entry_pb2.Entry], found: History) -> None:
    found.seen[0].items[CHANNEL][2] = Entry(2, b"")


def reset(_log: list[entry_pb2.Entry], found: History) -> None:
    found.seen[0].items[CHANNEL].append(Reset("BEYOND_HEAD", 8))


@pytest.mark.parametrize(
    "harm",
    [
        lose_an_acked_send,
        store_twice,
        leave_a_hole,
        refuse_what_is_stored,
        say_what_nobody_said,
        forget_an_edit,
        count_wrongly,
        show_a_secret,
        skip_one,
        show_twice,
        lose_the_last,
        lose_the_removal,
        show_something_else,
        reset,
    ],
)
def test_harm_is_noticed(harm: Callable[[list[entry_pb2.Entry], History], None]) -> None:
    log, found = entries(), history()
    harm(log, found)
    with pytest.raises(Broken):
        judge(log, found)


def test_the_order_of_a_device() -> None:
    log, found = entries(), history()
    # Given to the client in the other order.
    found.sends = dict(reversed(found.sends.items()))
    with pytest.raises(Broken, match="stands before it"):
        judge(log, found)


def test_unread_is_counted() -> None:
    log = Log(CHANNEL, entries())
    state = channel_pb2.ChannelState(channel_id=CHANNEL, read_id=7, unread_count=0, head_id=8)
    check_state(log, "bob", 0, state)
    for wrong in ({"unread_count": 1}, {"read_id": 6}, {"head_id": 7}):
        other = channel_pb2.ChannelState()
        other.CopyFrom(state)
        for name, value in wrong.items():
            setattr(other, name, value)
        with pytest.raises(Broken):
            check_state(log, "bob", 0, other)
