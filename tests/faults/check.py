"""What has to hold of a recorded history once all is quiet: docs/delivery.md, from outside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chinwag.chat.v1 import channel_pb2, entry_pb2
from tests.faults.history import Entry, Gap, History, Item, Opened, Reset, Seen, Sent

# How much later than an entry's time its sender may learn of it, and the other way round.
CLOCK_S = 1.0


class Broken(AssertionError):
    """What does not hold."""


@dataclass(slots=True)
class Log:
    """A channel's whole log, as the server gives it.

    Attributes:
        stays: By user the ids that they may see: (first, last) of each stay, last 0: it goes on.
        messages: By id its text now, and how many messages of the main timeline there are up to it.
    """

    channel_id: str
    entries: list[entry_pb2.Entry]
    payloads: list[bytes] = field(init=False)
    stays: dict[str, list[tuple[int, int]]] = field(init=False)
    texts: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        self.payloads = [entry.SerializeToString() for entry in self.entries]
        self.stays = defaultdict(list)
        self.texts = {}
        for entry in self.entries:
            came = (*entry.channel_created.members, *entry.members_added.members)
            for ref in came:
                stays = self.stays[ref.user_id]
                if not stays or stays[-1][1]:
                    stays.append((entry.id, 0))
            if entry.HasField("member_removed"):
                stays = self.stays[entry.member_removed.user_id]
                stays[-1] = (stays[-1][0], entry.id)
            elif entry.HasField("message_sent"):
                self.texts[entry.id] = entry.message_sent.content.text
            elif entry.HasField("message_edited"):
                self.texts[entry.message_edited.message_id] = entry.message_edited.content.text

    @property
    def head(self) -> int:
        return len(self.entries)

    def was_out(self, user_id: str, since: float, until: float) -> bool:
        """Whether a user was no member at some moment between two times of the wall clock."""
        out_since = 0.0
        for first, last in self.stays[user_id]:
            if out_since <= until and self._time(first) >= since:
                return True
            if not last:
                return False
            out_since = self._time(last)
        return out_since <= until

    def _time(self, entry_id: int) -> float:
        time = self.entries[entry_id - 1].create_time
        return time.seconds + time.nanos / 1e9

    def is_visible(self, user_id: str, entry_id: int) -> bool:
        return any(first <= entry_id <= (last or self.head) for first, last in self.stays[user_id])

    def is_member(self, user_id: str) -> bool:
        stays = self.stays[user_id]
        return bool(stays) and not stays[-1][1]


def check_logs(logs: Mapping[str, Log], history: History) -> None:
    """Ids are dense; each acked send is there once, at its id, with its text; none is there twice;
    what was refused is not there, and its sender was no member; messages of one device are in
    their order."""
    stored: dict[tuple[str, str], tuple[str, int, str]] = {}
    edits: dict[str, int] = defaultdict(int)
    for log in logs.values():
        count, time = 0, (0, 0)
        for number, entry in enumerate(log.entries, start=1):
            where = f"{log.channel_id}: entry {entry.id}"
            if entry.id != number:
                raise Broken(f"{where} stands where {number} should")
            at = (entry.create_time.seconds, entry.create_time.nanos)
            if at < time:
                raise Broken(f"{where} is of {at}, the one before of {time}")
            time = at
            count += entry.HasField("message_sent") and not entry.message_sent.thread_root_id
            if entry.timeline_count != count:
                raise Broken(f"{where} counts {entry.timeline_count} messages, there are {count}")
            if entry.HasField("message_sent"):
                key = (entry.actor_id, entry.message_sent.client_message_id)
                if key in stored:
                    raise Broken(f"{where} is {key}, which is stored as {stored[key]} too")
                stored[key] = (log.channel_id, entry.id, entry.message_sent.content.text)
            elif entry.HasField("message_edited"):
                edits[entry.message_edited.content.text] += 1
    last: dict[tuple[tuple[str, str], str], Sent] = {}
    for key, sent in history.sends.items():
        _check_sent(sent, stored.pop(key, None))
        if sent.refused:
            _check_refused(sent, logs[sent.channel_id], history)
        if sent.message_id:
            lane = (sent.device, sent.channel_id)
            if lane in last and last[lane].message_id >= sent.message_id:
                raise Broken(f"{sent} was sent after {last[lane]} and stands before it")
            last[lane] = sent
    if stored:
        raise Broken(f"nobody sent {stored}")
    for edit in history.edits:
        if edits[edit.text] > 1 or (edit.is_acked and not edits[edit.text]):
            raise Broken(f"{edit} is in the log {edits[edit.text]} times")


def _check_sent(sent: Sent, found: tuple[str, int, str] | None) -> None:
    if sent.message_id:
        if found != (sent.channel_id, sent.message_id, sent.text):
            raise Broken(f"{sent} was acked, the log has {found}")
    elif sent.refused and found is not None:
        raise Broken(f"{sent} was refused, the log has {found}")


def _check_refused(sent: Sent, log: Log, history: History) -> None:
    """No send fails, whatever breaks, but that of who is out of the channel."""
    since, until = (history.wall_s + at for at in (sent.sent_at, sent.done_at))
    is_right = sent.refused == "NOT_A_MEMBER"
    if not is_right or not log.was_out(sent.device[0], since - CLOCK_S, until + CLOCK_S):
        raise Broken(f"{sent} was refused, its sender's stays: {log.stays[sent.device[0]]}")


def check_devices(logs: Mapping[str, Log], history: History) -> None:
    """Each device's application saw all that it may see, each entry once and in order, nothing
    else, and the same as the log."""
    for seen in history.seen:
        for channel_id in seen.items.keys() - logs.keys():
            raise Broken(f"{seen.user_id}/{seen.device} saw an unknown channel {channel_id}")
        for log in logs.values():
            if log.stays.get(seen.user_id):
                _check_device(log, seen, seen.items.get(log.channel_id, ()))


def _check_device(log: Log, seen: Seen, items: Sequence[Item]) -> None:
    who = f"{log.channel_id}: {seen.user_id}/{seen.device}"
    at = 0  # all up to here was seen, or may not be

    def pass_over(to_id: int, why: Item | str) -> None:
        for entry_id in range(at + 1, to_id + 1):
            if log.is_visible(seen.user_id, entry_id):
                raise Broken(f"{who} never saw {entry_id}: {why}, after {at}")

    for item in items:
        match item:
            case Opened(after_id):
                if after_id > at:
                    pass_over(after_id, item)
                    at = after_id
            case Reset("GENERATION", after_id) if item is items[0]:
                # An entry came before the channel was opened: the server was asked where it begins.
                pass_over(after_id, item)
                at = after_id
            case Reset():
                raise Broken(f"{who} was told {item} after {at}")
            case Gap(from_id, to_id):
                if from_id != at + 1:
                    raise Broken(f"{who} was told {item} after {at}")
                pass_over(to_id, item)
                at = to_id
            case Entry(entry_id, payload):
                if entry_id != at + 1:
                    raise Broken(f"{who} saw {entry_id} after {at}")
                if entry_id > log.head or payload != log.payloads[entry_id - 1]:
                    raise Broken(f"{who} saw another {entry_id} than the log has")
                if not log.is_visible(seen.user_id, entry_id):
                    raise Broken(f"{who} saw {entry_id}, stays: {log.stays[seen.user_id]}")
                at = entry_id
    pass_over(log.head, "it is the end")


def check_state(log: Log, user_id: str, read_id: int, told: channel_pb2.ChannelState) -> None:
    """A member's registers: the mark is the highest that was set, and unread is what counting
    gives.

    Args:
        read_id: The highest mark that the user's applications set.
        told: As a node tells them.
    """
    own = [entry.id for entry in log.entries if entry.actor_id == user_id and _is_message(entry)]
    joined = log.stays[user_id][-1][0]
    expected = max([read_id, joined, *own])
    if told.read_id != expected:
        raise Broken(
            f"{log.channel_id}: {user_id} has read up to {told.read_id}, not {expected} (marked "
            f"{read_id}, joined at {joined}, last own {max(own, default=0)})"
        )
    unread = sum(_is_message(entry) for entry in log.entries[told.read_id :])
    if told.unread_count != unread or told.head_id != log.head:
        raise Broken(
            f"{log.channel_id}: {user_id} has {told.unread_count} unread at head {told.head_id}, "
            f"counting gives {unread} at {log.head}"
        )


def _is_message(entry: entry_pb2.Entry) -> bool:
    return entry.HasField("message_sent") and not entry.message_sent.thread_root_id
