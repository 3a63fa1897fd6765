"""The terminal client's view: what events make of the list and of the messages."""

from __future__ import annotations

from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2, entry_pb2, message_pb2
from chinwag_server.cli.chat.model import Model


def entry(entry_id: int, actor: str = "bob", **fields: object) -> ev.EntryEvent:
    made = entry_pb2.Entry(channel_id="c", id=entry_id, actor_id=actor, **fields)  # type: ignore[arg-type]
    made.create_time.FromSeconds(1_700_000_000 + entry_id)
    return ev.of_entry(made, 1)


def sent(entry_id: int, text: str, actor: str = "bob", key: str = "") -> ev.EntryEvent:
    content = message_pb2.MessageContent(text=text)
    return entry(
        entry_id,
        actor,
        message_sent=entry_pb2.MessageSent(client_message_id=key, content=content),
    )


def model() -> Model:
    shown = Model("ann")
    channel = channel_pb2.Channel(id="c", kind=channel_pb2.CHANNEL_KIND_GROUP, name="team")
    shown.apply(ev.ChannelOpened("c", channel, channel_pb2.ChannelState(), ev.Cursor("c", 1, 0)))
    return shown


def texts(shown: Model) -> list[str]:
    return [line.text for line in shown.rooms["c"].lines]


def test_messages_of_others_count_as_unread_own_ones_do_not() -> None:
    shown = model()
    room = shown.rooms["c"]
    shown.apply(sent(1, "hi"))
    shown.apply(sent(2, "there"))
    assert (room.unread, shown.title(room)) == (2, "#team")
    shown.apply(sent(3, "yes", actor="ann"))
    assert room.unread == 0
    assert texts(shown) == ["hi", "there", "yes"]


def test_a_waiting_message_becomes_the_stored_one() -> None:
    shown = model()
    room = shown.rooms["c"]
    shown.post(room, "k1", "mine")
    assert room.lines[0].is_waiting
    shown.apply(sent(1, "theirs"))
    shown.apply(sent(2, "mine", actor="ann", key="k1"))
    assert [(line.id, line.text) for line in room.lines] == [(1, "theirs"), (2, "mine")]


def test_a_failed_message_says_so() -> None:
    shown = model()
    room = shown.rooms["c"]
    shown.post(room, "k1", "mine")
    shown.fail(room, "k1", "BANNED")
    assert room.lines[0].failed == "BANNED"
    assert not room.lines[0].is_waiting


def test_edits_deletions_and_reactions_change_the_line() -> None:
    shown = model()
    room = shown.rooms["c"]
    shown.apply(sent(1, "helo"))
    content = message_pb2.MessageContent(text="hello")
    shown.apply(entry(2, message_edited=entry_pb2.MessageEdited(message_id=1, content=content)))
    shown.apply(entry(3, reaction_added=entry_pb2.ReactionAdded(message_id=1, emoji="+1")))
    assert (room.lines[0].text, room.lines[0].edited) == ("hello", True)
    assert room.lines[0].reactions == {"+1": 1}
    shown.apply(entry(4, reaction_removed=entry_pb2.ReactionRemoved(message_id=1, emoji="+1")))
    assert room.lines[0].reactions == {}
    shown.apply(entry(5, message_deleted=entry_pb2.MessageDeleted(message_id=1)))
    assert (room.lines[0].text, room.lines[0].deleted) == ("", True)


def test_history_joins_what_is_shown_without_a_repeat() -> None:
    shown = model()
    room = shown.rooms["c"]
    shown.apply(sent(3, "three"))
    page = [
        message_pb2.Message(id=number, sender_id="bob", content=message_pb2.MessageContent(text=t))
        for number, t in ((1, "one"), (2, "two"), (3, "three"))
    ]
    shown.take_history(room, page)
    assert texts(shown) == ["one", "two", "three"]


def test_who_is_removed_loses_the_channel() -> None:
    shown = model()
    shown.apply(entry(2, member_removed=entry_pb2.MemberRemoved(user_id="ann")))
    assert shown.ordered() == []


def test_typing_ends_by_itself() -> None:
    shown = model()
    room = shown.rooms["c"]
    shown.apply_typing(ev.TypingChanged("c", "bob", 0, True), now=10.0)
    assert shown.typing(room, now=12.0) == "bob is typing"
    assert shown.typing(room, now=17.0) == ""
