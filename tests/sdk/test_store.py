"""One suite for both client stores, and what is special about the file."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chinwag import events as ev
from chinwag.account.v1 import events_pb2
from chinwag.chat.v1 import channel_pb2, connect_pb2, entry_pb2
from chinwag.errors import StoreMismatch
from chinwag.outbox import Send
from chinwag.sqlite_store import SqliteStore
from chinwag.store import ClientStore, MemoryStore

MakeStore = Callable[[], ClientStore]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ClientStore:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "s.db")


def of_entry(entry_id: int, **kind: object) -> ev.EntryEvent:
    entry = entry_pb2.Entry(channel_id="c", id=entry_id, actor_id="ada", **kind)  # type: ignore[arg-type]
    entry.create_time.FromSeconds(entry_id)
    return ev.of_entry(entry, 1)


def sent(entry_id: int, text: str, thread_root_id: int = 0) -> ev.EntryEvent:
    made = entry_pb2.MessageSent(thread_root_id=thread_root_id)
    made.content.text = text
    return of_entry(entry_id, message_sent=made)


def edited(entry_id: int, message_id: int, text: str) -> ev.EntryEvent:
    made = entry_pb2.MessageEdited(message_id=message_id)
    made.content.text = text
    return of_entry(entry_id, message_edited=made)


def deleted(entry_id: int, message_id: int) -> ev.EntryEvent:
    return of_entry(entry_id, message_deleted=entry_pb2.MessageDeleted(message_id=message_id))


def send(number: int, name: str) -> Send:
    request = connect_pb2.SendMessageRequest(channel_id="c", client_message_id=name)
    return Send(number, request, 123.5)


def opened(kind: channel_pb2.ChannelKind.ValueType) -> ev.ChannelOpened:
    channel = channel_pb2.Channel(id="c", name="friends", kind=kind, generation=1)
    state = channel_pb2.ChannelState(channel_id="c", read_id=4)
    return ev.ChannelOpened("c", channel, state, ev.Cursor("c", 1, 4))


def texts(store: ClientStore, **more: int) -> list[str]:
    return [message.content.text for message in store.messages("c", **more)]


def test_an_empty_store(store: ClientStore) -> None:
    saved = store.load()
    assert (saved.cursors, saved.stamp, saved.account_cursor, saved.sends) == ([], "", "", [])
    assert store.messages("c") == []
    assert store.channels() == []
    assert store.state("c") is None


def test_cursors_follow_the_events(store: ClientStore) -> None:
    account = events_pb2.AccountEvent(id=1, cursor="a1")
    store.commit([sent(1, "a"), sent(2, "b"), ev.StampReached("s1"), ev.AccountChanged(account)])
    store.commit([ev.GapSeen("c", 3, 9, ev.Cursor("c", 1, 9))])
    saved = store.load()
    assert saved.cursors == [ev.Cursor("c", 1, 9)]
    assert (saved.stamp, saved.account_cursor) == ("s1", "a1")


def test_the_outbox(store: ClientStore) -> None:
    for number, name in ((3, "c"), (1, "a"), (2, "b")):
        store.add_send(send(number, name))
    store.remove_sends(["b", "unknown"])
    left = store.load().sends
    assert [(s.number, s.request.client_message_id, s.create_time_s) for s in left] == [
        (1, "a", 123.5),
        (3, "c", 123.5),
    ]


def test_messages_in_pages(store: ClientStore) -> None:
    store.commit([sent(number, str(number)) for number in range(1, 10)])
    assert texts(store, limit=3) == ["7", "8", "9"]
    assert texts(store, before_id=7, limit=3) == ["4", "5", "6"]
    assert texts(store, before_id=1) == []


def test_edits_and_reactions(store: ClientStore) -> None:
    added = entry_pb2.ReactionAdded(message_id=1, emoji="+1")
    store.commit([sent(1, "helo"), edited(2, 1, "hello"), of_entry(3, reaction_added=added)])
    (message,) = store.messages("c")
    assert message.content.text == "hello"
    assert message.edit_time.seconds == 2
    assert message.last_entry_id == 3
    assert [(r.emoji, r.count, list(r.user_ids)) for r in message.reactions] == [("+1", 1, ["ada"])]
    removed = entry_pb2.ReactionRemoved(message_id=1, emoji="+1")
    store.commit([of_entry(4, reaction_removed=removed), edited(5, 77, "of an unknown one")])
    assert list(store.messages("c")[0].reactions) == []


def test_a_repeat_changes_nothing(store: ClientStore) -> None:
    events = [sent(1, "a"), edited(2, 1, "b")]
    store.commit(events)
    store.commit(events[1:])
    assert texts(store) == ["b"]


def test_a_deletion_takes_the_text_of_the_message_and_its_edits(store: ClientStore) -> None:
    store.commit([sent(1, "secret"), edited(2, 1, "secret too"), deleted(3, 1)])
    (message,) = store.messages("c")
    assert not message.HasField("content")
    assert message.delete_time.seconds == 3
    assert b"secret" not in message.SerializeToString()


def test_redacted_entries(store: ClientStore) -> None:
    made = entry_pb2.MessageSent()
    store.commit(
        [of_entry(1, message_sent=made, redacted=True), of_entry(2, redacted=True), deleted(3, 1)]
    )
    assert not store.messages("c")[0].HasField("content")


def test_threads(store: ClientStore) -> None:
    store.commit([sent(1, "root"), sent(2, "reply", 1), sent(3, "more", 1)])
    assert texts(store) == ["root"]
    assert texts(store, thread_root_id=1) == ["reply", "more"]
    (root,) = store.messages("c")
    assert (root.thread.reply_count, root.thread.last_reply_id) == (2, 3)


def test_channels_and_states(store: ClientStore) -> None:
    store.commit([opened(channel_pb2.CHANNEL_KIND_GROUP)])
    assert store.load().cursors == [ev.Cursor("c", 1, 4)]
    now = channel_pb2.Channel(id="c", name="enemies", kind=channel_pb2.CHANNEL_KIND_GROUP)
    updated = entry_pb2.ChannelUpdated(channel=now, changed_fields=["name"])
    state = channel_pb2.ChannelState(channel_id="c", read_id=5)
    store.commit([of_entry(5, channel_updated=updated), ev.StateChanged("c", state)])
    assert [(c.id, c.name, c.generation) for c in store.channels()] == [("c", "enemies", 1)]
    known = store.state("c")
    assert known is not None
    assert known.read_id == 5
    store.commit([of_entry(6, channel_deleted=entry_pb2.ChannelDeleted())])
    assert store.channels()[0].delete_time.seconds == 6


def test_broadcast_channels_have_a_cursor_only_while_they_are_looked_at(
    store: ClientStore,
) -> None:
    store.commit([opened(channel_pb2.CHANNEL_KIND_BROADCAST)])
    assert store.load().cursors == []


def test_resets(store: ClientStore) -> None:
    store.commit([opened(channel_pb2.CHANNEL_KIND_GROUP), sent(5, "a")])
    store.commit([ev.ChannelReset("c", "GENERATION", ev.Cursor("c", 2, 3))])
    assert store.load().cursors == [ev.Cursor("c", 2, 3)]
    assert texts(store) == []
    assert len(store.channels()) == 1
    store.commit([ev.ChannelReset("c", "NOT_VISIBLE", None)])
    assert store.load().cursors == []
    assert store.channels() == []
    assert store.state("c") is None


def test_whose_it_is(store: ClientStore) -> None:
    store.bind("ada")
    store.bind("ada")
    with pytest.raises(StoreMismatch):
        store.bind("bob")


# --- memory ---


def test_memory_is_bounded() -> None:
    store = MemoryStore(max_messages=3)
    store.commit([sent(number, str(number)) for number in range(1, 9)])
    assert texts(store) == ["6", "7", "8"]
    store = MemoryStore(max_messages=0)
    store.commit([sent(1, "a")])
    assert texts(store) == []


# --- the file ---


def test_it_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.db"
    store = SqliteStore(path)
    store.bind("ada")
    store.add_send(send(1, "a"))
    store.commit([sent(1, "hello"), ev.StampReached("s")])
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store = SqliteStore(path)
    assert store.load().stamp == "s"
    assert len(store.load().sends) == 1
    assert texts(store) == ["hello"]
    with pytest.raises(StoreMismatch):
        store.bind("bob")
    store.close()


def test_a_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    broken = ev.GapSeen("c", 1, 2, None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        store.commit([sent(1, "a"), broken])
    assert store.load().cursors == []
    assert texts(store) == []
    store.close()


def test_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    program = (
        "import os, sys\n"
        "from chinwag import events as ev\n"
        "from chinwag.sqlite_store import SqliteStore\n"
        "store = SqliteStore(sys.argv[1])\n"
        "store.commit([ev.GapSeen('c', 1, 5, ev.Cursor('c', 1, 5))])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -9
    store = SqliteStore(path)
    assert store.load().cursors == [ev.Cursor("c", 1, 5)]
    store.close()


def test_nothing_of_a_deleted_text_is_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    secret = "a very secret sentence " * 200
    store.commit([sent(1, secret), edited(2, 1, secret + "again")])
    store.commit([deleted(3, 1)])
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"very secret" not in left
    store.close()


def test_a_second_process(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.bind("ada")
    with pytest.raises(StoreMismatch, match="another process"):
        SqliteStore(tmp_path / "s.db")
    store.close()


def test_files_of_others(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database, and longer than a header would be" * 10)
    with pytest.raises(StoreMismatch):
        SqliteStore(text)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(StoreMismatch):
        SqliteStore(tmp_path / "other.db")
    newer = tmp_path / "newer.db"
    SqliteStore(newer).close()
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreMismatch, match="99"):
        SqliteStore(newer)
