"""Checking a channel's members: marks, ranges, preferences, and how many there are."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from chinwag.chat.v1 import channel_pb2
from chinwag_server.chat.sqlite.check_channel import ChannelCheck, Violation


def check_members(
    connection: sqlite3.Connection, channel: ChannelCheck, newest_stamp: int
) -> Iterator[Violation]:
    """Every member's row fits the log.

    Args:
        channel: Its log was walked.
        newest_stamp: Of the store.
    """
    current = 0
    head_id = channel.head_id
    for (
        user_id,
        role,
        join_id,
        read_id,
        read_count,
        delivered_id,
        archived,
        pinned,
        stamp,
        ranges,
        preferences,
    ) in connection.execute(
        "SELECT user_id, role, join_id, read_id, read_count, delivered_id, archived, pinned,"
        " stamp, ranges, preferences FROM members WHERE no = ?",
        (channel.no,),
    ):
        current += bool(role)
        if not 0 <= read_id <= delivered_id <= head_id:
            yield channel.violation(
                delivered_id,
                f"member {user_id!r}: read {read_id}, delivered {delivered_id}, head {head_id}",
            )
        elif read_count != channel.count_at(read_id):
            yield channel.violation(
                read_id,
                f"member {user_id!r}: read_count {read_count}, the log has "
                f"{channel.count_at(read_id)}",
            )
        if not 0 <= join_id <= head_id:
            yield channel.violation(join_id, f"member {user_id!r}: joined above head {head_id}")
        if stamp > newest_stamp:
            yield channel.violation(0, f"member {user_id!r}: stamp {stamp} is in the future")
        wrong = _wrong_ranges(ranges, bool(role), head_id)
        if wrong:
            yield channel.violation(0, f"member {user_id!r}: {wrong}")
        try:
            own = channel_pb2.ChannelPreferences.FromString(preferences)
        except DecodeError:
            yield channel.violation(0, f"member {user_id!r}: the preferences are none")
            continue
        if (own.archived, own.pinned) != (bool(archived), bool(pinned)):
            yield channel.violation(
                0, f"member {user_id!r}: archived or pinned differ from the preferences"
            )
    if current != channel.member_count:
        yield channel.violation(
            0, f"member_count is {channel.member_count}, there are {current} members"
        )


def _wrong_ranges(packed: bytes, is_member: bool, head_id: int) -> str:
    """What is wrong with the ranges of ids that a user may see; "" if nothing."""
    if len(packed) % 16:
        return "the ranges are not pairs"
    ranges = list(struct.iter_unpack("<2q", packed))
    if [first for first, _ in ranges] != sorted(first for first, _ in ranges):
        return f"the ranges {ranges} do not rise"
    for place, (first, last) in enumerate(ranges):
        stays = last == 0 and place == len(ranges) - 1 and is_member
        # In a broadcast channel a stay without an entry is the empty range (head + 1, head).
        if not 1 <= first <= head_id + 1 or not (stays or first - 1 <= last <= head_id):
            return f"the range {(first, last)} does not fit the head {head_id}"
    if is_member and (not ranges or ranges[-1][1] != 0):
        return f"a member, but the ranges {ranges} have ended"
    return ""
