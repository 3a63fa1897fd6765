"""What a replay proves: every device saw all that it should, once, in one order, byte for byte."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Seen:
    """An entry as a device's application saw it.

    Attributes:
        text: Of a message; None for other entries.
        member_id: Of an entry that ends a membership, whose.
    """

    id: int
    kind: str
    actor_id: str
    client_message_id: str
    text: str | None
    member_id: str = ""


@dataclass(slots=True)
class Record:
    """What one device saw of one channel.

    Attributes:
        start_id: Where the server said that the device's view begins.
    """

    user_id: str
    device: str
    start_id: int | None = None
    seen: list[Seen] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class SentLine:
    """A line that was sent: what was acked under which id."""

    user_id: str
    client_message_id: str
    text: str
    message_id: int


class Difference(Exception):
    """The first thing that is not as it should be."""


def verify_channel(
    name: str,
    log: Sequence[Seen],
    sent: Iterable[SentLine],
    records: Iterable[Record],
    first: Mapping[str, int],
    last: Mapping[str, int],
) -> None:
    """Compares a channel's log, what was sent, and what every device saw.

    Args:
        log: The whole log, as the channel's owner reads it from the server at the end.
        first: By user the entry that made them a member.
        last: By user the entry that ended their membership; who is not in it stayed.

    Raises:
        Difference: With the channel, the device and the entry.
    """
    _verify_log(name, log, sent)
    by_id = {entry.id: entry for entry in log}
    head = log[-1].id if log else 0
    for record in records:
        _verify_device(name, by_id, record, first, last.get(record.user_id, head))


def _verify_log(name: str, log: Sequence[Seen], sent: Iterable[SentLine]) -> None:
    for position, entry in enumerate(log, start=1):
        if entry.id != position:
            raise Difference(f"{name}: the log has entry {entry.id} where {position} should be")
    by_id = {entry.id: entry for entry in log}
    in_order: dict[str, list[int]] = defaultdict(list)
    keys: dict[tuple[str, str], int] = {}
    for entry in log:
        if entry.text is not None:
            key = (entry.actor_id, entry.client_message_id)
            if key in keys:
                raise Difference(f"{name}: {key} is stored twice, as {keys[key]} and {entry.id}")
            keys[key] = entry.id
    for line in sent:
        stored = by_id.get(line.message_id)
        if stored is None or stored.client_message_id != line.client_message_id:
            raise Difference(f"{name}: the acked message {line.message_id} is not in the log")
        if stored.text != line.text or stored.actor_id != line.user_id:
            raise Difference(f"{name}: message {line.message_id} is not what was sent")
        del keys[line.user_id, line.client_message_id]
        in_order[line.user_id].append(line.message_id)
    if keys:
        raise Difference(f"{name}: the log has messages that nobody sent: {sorted(keys.values())}")
    for user_id, ids in in_order.items():
        if ids != sorted(ids):
            raise Difference(f"{name}: the messages of {user_id} are not in the order of sending")


def _verify_device(
    name: str, log: Mapping[int, Seen], record: Record, first: Mapping[str, int], last_id: int
) -> None:
    where = f"{name}: {record.user_id}/{record.device}"
    if record.start_id is None:
        raise Difference(f"{where}: never saw the channel")
    if record.start_id > max(first[record.user_id] - 1, 0):
        raise Difference(f"{where}: its view begins after {record.start_id}, too late")
    expected = record.start_id + 1
    for entry in record.seen:
        if entry.id != expected:
            kind = "again" if entry.id < expected else "too early"
            raise Difference(f"{where}: saw {entry.id} {kind}, expected {expected}")
        if entry != log.get(entry.id):
            raise Difference(f"{where}: entry {entry.id} differs from the log's")
        expected += 1
    if expected - 1 != last_id:
        raise Difference(f"{where}: saw up to {expected - 1}, should have seen up to {last_id}")
