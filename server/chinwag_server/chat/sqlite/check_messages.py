"""Checking a channel's projections: states, reactions, threads, mentions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from chinwag.chat.v1 import message_pb2
from chinwag_server.chat.entries import MAX_REACTION_USERS
from chinwag_server.chat.sqlite.check_channel import ChannelCheck, Violation, parse_entry
from chinwag_server.chat.sqlite.schema import MAX_ENTRY_ID, entry_key
from chinwag_server.chat.store import EntryKind


def check_messages(connection: sqlite3.Connection, channel: ChannelCheck) -> Iterator[Violation]:
    """Every message that was changed has a state that agrees with the log and the reactions.

    Args:
        channel: Its log was walked.
    """
    bounds = (entry_key(channel.no, 0), entry_key(channel.no, MAX_ENTRY_ID))
    seen = set()
    for key, content_key, raw in connection.execute(
        "SELECT key, content_key, state FROM messages WHERE key >= ? AND key <= ?", bounds
    ).fetchall():
        message_id = key & MAX_ENTRY_ID
        seen.add(message_id)
        if channel.root_of(message_id) < 0:
            yield channel.violation(message_id, "a message's state, but the entry is no message")
            continue
        try:
            state = message_pb2.Message.FromString(raw)
        except DecodeError:
            yield channel.violation(message_id, "its state is no Message")
            continue
        if state.HasField("content"):
            yield channel.violation(message_id, "its state holds content")
        newest = channel.changed.get(message_id, message_id)
        if state.last_entry_id != newest:
            yield channel.violation(
                message_id, f"its state is as of {state.last_entry_id}, expected {newest}"
            )
        thread = channel.replies.get(message_id, [])
        summary = (state.thread.reply_count, state.thread.last_reply_id)
        if summary != (len(thread), thread[-1] if thread else 0):
            yield channel.violation(
                message_id, f"its thread is said to be {summary}, the log has {len(thread)} replies"
            )
        deleted = state.HasField("delete_time")
        yield from _check_edits(connection, channel, key, content_key, deleted)
        yield from _check_reactions(connection, channel, key, state, deleted)
    for message_id in channel.changed.keys() - seen:
        yield channel.violation(message_id, "it was changed, but has no state")
    yield from _check_reaction_rows(connection, channel, bounds, seen)
    for (key,) in connection.execute(
        "SELECT key FROM mentions WHERE key >= ? AND key <= ?"
        " AND key NOT IN (SELECT key FROM entries WHERE kind = 16)",
        bounds,
    ):
        yield channel.violation(key & MAX_ENTRY_ID, "a mention in what is no message")


def _check_edits(
    connection: sqlite3.Connection,
    channel: ChannelCheck,
    key: int,
    content_key: int | None,
    deleted: bool,
) -> Iterator[Violation]:
    message_id = key & MAX_ENTRY_ID
    edits = connection.execute(
        "SELECT key, redacted FROM entries WHERE message_key = ? AND kind = 17 ORDER BY key",
        (key,),
    ).fetchall()
    if deleted:
        (own,) = connection.execute("SELECT redacted FROM entries WHERE key = ?", (key,)).fetchone()
        for found, redacted in ((key, own), *edits):
            if not redacted:
                yield channel.violation(
                    found & MAX_ENTRY_ID, f"message {message_id} is deleted, this is not redacted"
                )
        expected = None
    else:
        expected = edits[-1][0] if edits else None
    if content_key != expected:
        yield channel.violation(
            message_id,
            f"its content is said to be in entry {(content_key or 0) & MAX_ENTRY_ID}, expected "
            f"{(expected or 0) & MAX_ENTRY_ID}",
        )


def _check_reactions(
    connection: sqlite3.Connection,
    channel: ChannelCheck,
    key: int,
    state: message_pb2.Message,
    deleted: bool,
) -> Iterator[Violation]:
    message_id = key & MAX_ENTRY_ID
    users: dict[str, list[str]] = {}
    for emoji, user_id in connection.execute(
        "SELECT emoji, user_id FROM reactions WHERE key = ? ORDER BY entry_id", (key,)
    ):
        users.setdefault(emoji, []).append(user_id)
    if deleted and users:
        yield channel.violation(message_id, "it is deleted, but has reactions")
    said = {group.emoji: (group.count, list(group.user_ids)) for group in state.reactions}
    stored = {emoji: (len(all_), all_[:MAX_REACTION_USERS]) for emoji, all_ in users.items()}
    if said != stored:
        yield channel.violation(
            message_id, f"its state has the reactions {said}, their rows say {stored}"
        )


def _check_reaction_rows(
    connection: sqlite3.Connection, channel: ChannelCheck, bounds: tuple[int, int], seen: set[int]
) -> Iterator[Violation]:
    """Each row comes from an entry with that message, emoji and user."""
    for key, emoji, user_id, entry_id in connection.execute(
        "SELECT key, emoji, user_id, entry_id FROM reactions WHERE key >= ? AND key <= ?", bounds
    ).fetchall():
        message_id = key & MAX_ENTRY_ID
        if message_id not in seen:
            yield channel.violation(message_id, "it has reactions, but no state")
        row = connection.execute(
            "SELECT kind, payload FROM entries WHERE key = ?", (entry_key(channel.no, entry_id),)
        ).fetchone()
        entry = parse_entry(row[1]) if row and row[0] == EntryKind.REACTION_ADDED else None
        if (
            entry is None
            or entry.reaction_added.message_id != message_id
            or entry.reaction_added.emoji != emoji
            or entry.actor_id != user_id
        ):
            yield channel.violation(
                message_id,
                f"the reaction {emoji!r} of {user_id!r} is said to be entry {entry_id}, which is "
                "another",
            )
