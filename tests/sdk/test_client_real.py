"""The client against a real node: its accounts are a stand-in, all else is real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chinwag
from chinwag import errors
from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2
from chinwag.session import Session
from tests.server.serving import Served
from tests.server.standin import StandInAccount


def session(user_id: str, device: str = "1") -> Session:
    """A login at the stand-in."""
    return Session(user_id, f"{user_id}{device}", f"{user_id}/{user_id}{device}")


class Application:
    """Takes a client's events as they come."""

    def __init__(self, client: chinwag.Client) -> None:
        self.events: list[ev.Event] = []
        self._came = asyncio.Condition()
        self._task = asyncio.ensure_future(self._run(client))

    async def _run(self, client: chinwag.Client) -> None:
        async for event in client.events():
            self.events.append(event)
            async with self._came:
                self._came.notify_all()

    def of(self, kind: type[ev.Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.of(ev.MessageReceived)]

    async def until(self, holds: Callable[[], object], timeout_s: float = 10.0) -> None:
        async with self._came:
            await asyncio.wait_for(self._came.wait_for(lambda: bool(holds())), timeout_s)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_message_reaches_everybody(bare_server: Served) -> None:
    target = bare_server.target
    async with (
        chinwag.connect(target, session("ada")) as ada,
        chinwag.connect(target, session("bob")) as bob,
    ):
        heard = Application(bob)
        group = await ada.create_group("friends", ["bob"])
        sent = await group.send("hello", mentions=["bob"], metadata={"k": "v"})
        assert sent.channel_id == group.id
        await heard.until(lambda: heard.texts)
        message = heard.of(ev.MessageReceived)[0]
        assert (message.text, message.message_id, message.sender_id) == (
            "hello",
            sent.message_id,
            "ada",
        )
        assert list(message.content.mentioned_user_ids) == ["bob"]
        assert heard.of(ev.ChannelOpened)[0].channel.name == "friends"
        assert (await group.message(sent.message_id)).content.metadata["k"] == "v"


async def test_posts_keep_their_order(bare_server: Served) -> None:
    async with chinwag.connect(bare_server.target, session("ada")) as ada:
        group = await ada.create_group()
        posted = [group.post(str(number)) for number in range(300)]
        ids = [(await handle).message_id for handle in posted]
        assert ids == sorted(ids)
        texts = [message.content.text async for message in group.history()]
        assert texts == [str(number) for number in reversed(range(300))]
        assert [m.content.text async for m in group.history(after=ids[297])] == ["298", "299"]
        assert [m.id async for m in group.history(before=ids[2], limit=2)] == [ids[1], ids[0]]


async def test_edits_reactions_and_deletions(bare_server: Served) -> None:
    async with chinwag.connect(bare_server.target, session("ada")) as ada:
        seen = Application(ada)
        group = await ada.create_group()
        sent = await group.send("hello")
        await group.react(sent.message_id, "+1")
        await group.edit(sent.message_id, "goodbye")
        assert (await group.message(sent.message_id)).content.text == "goodbye"
        await seen.until(lambda: seen.of(ev.MessageEdited))
        assert group.kept()[0].content.text in ("hello", "goodbye")
        await group.delete(sent.message_id)
        await seen.until(lambda: seen.of(ev.MessageDeleted))
        await seen.stop()
        assert seen.of(ev.ReactionChanged)[0].emoji == "+1"
        assert seen.of(ev.MessageEdited)[0].text == "goodbye"


async def test_refusals_are_typed(bare_server: Served) -> None:
    async with chinwag.connect(bare_server.target, session("ada")) as ada:
        with pytest.raises(errors.NotFound) as missing:
            await ada.channel("nowhere").send("hello")
        assert missing.value.reason == "CHANNEL_NOT_FOUND"
        group = await ada.create_group()
        with pytest.raises(errors.InvalidArgument) as wrong:
            await group.send("x" * 100_001)
        assert wrong.value.reason == "INVALID_FIELD"
        assert "text" in next(iter(wrong.value.fields))
        with pytest.raises(errors.InvalidArgument):
            group.post("\ud800")
        with pytest.raises(errors.InvalidArgument):
            await group.send("")
        # What was refused does not hold back what follows.
        assert (await group.send("\U0001f600" * 100_000)).message_id > 0


async def test_marks_and_receipts(bare_server: Served) -> None:
    target = bare_server.target
    async with (
        chinwag.connect(target, session("ada")) as ada,
        chinwag.connect(target, session("bob"), delivered_marks=True) as bob,
    ):
        seen, heard = Application(ada), Application(bob)
        direct = await ada.direct("bob")
        sent = await direct.send("hello")
        await heard.until(lambda: heard.texts)
        await seen.until(lambda: seen.of(ev.ReceiptChanged))
        bob.channel(direct.id).typing()
        bob.channel(direct.id).mark_read(sent.message_id)
        await seen.until(
            lambda: any(r.read_id == sent.message_id for r in seen.of(ev.ReceiptChanged))
        )
        await seen.until(lambda: seen.of(ev.TypingChanged))
        assert [r.user_id async for r in direct.receipts()] == ["ada", "bob"]


async def test_a_second_stream_of_a_device_ends_the_first(bare_server: Served) -> None:
    async with chinwag.connect(bare_server.target, session("ada")) as first:
        async with chinwag.connect(bare_server.target, session("ada")):
            with pytest.raises(errors.Replaced):
                async for _event in first.events():
                    pass
        with pytest.raises(errors.ClientClosed):
            first.channel("c").post("hello")


async def test_a_token_that_is_refused_for_good(bare_server: Served) -> None:
    bad = Session("ada", "d", "forged")
    with pytest.raises(errors.Unauthenticated):
        async with chinwag.connect(bare_server.target, bad):
            pass


async def test_no_server() -> None:
    with pytest.raises(errors.Unavailable):
        async with chinwag.connect("127.0.0.1:1", session("ada"), wait_s=0.5):
            pass


async def test_a_restart_of_the_server(start_node: Any) -> None:
    node: Served = await start_node(open_account=StandInAccount)
    port = node.node.port
    async with (
        chinwag.connect(node.target, session("ada")) as ada,
        chinwag.connect(node.target, session("bob")) as bob,
    ):
        heard = Application(bob)
        group = await ada.create_group("", ["bob"])
        await group.send("before")
        await node.node.stop()
        handle = group.post("meanwhile")
        await start_node(open_account=StandInAccount, listen__port=port)
        await asyncio.wait_for(handle, 30)
        await group.send("after")
        await heard.until(lambda: heard.texts == ["before", "meanwhile", "after"], 30)


async def test_a_client_goes_on_where_it_was(bare_server: Served, tmp_path: Path) -> None:
    target, path = bare_server.target, tmp_path / "bob.db"
    async with chinwag.connect(target, session("ada")) as ada:
        group = await ada.create_group("", ["bob"])
        store = chinwag.SqliteStore(path)
        async with chinwag.connect(target, session("bob"), store=store) as bob:
            await bob.caught_up()
            await group.send("one")
            async for event in bob.events():
                if isinstance(event, ev.MessageReceived):
                    assert event.text == "one"
                    bob.commit(event)
                    break
        store.close()
        await group.send("two")
        await group.send("three")
        store = chinwag.SqliteStore(path)
        async with chinwag.connect(target, session("bob"), store=store) as bob:
            heard = Application(bob)
            await heard.until(lambda: len(heard.texts) == 2)
            assert heard.texts == ["two", "three"]
            await heard.stop()
        assert [m.content.text for m in store.messages(group.id)][:2] == ["one", "two"]
        store.close()


async def test_a_message_of_an_earlier_process(bare_server: Served, tmp_path: Path) -> None:
    target = bare_server.target
    async with chinwag.connect(target, session("ada")) as ada:
        group_id = (await ada.create_group()).id
    store = chinwag.SqliteStore(tmp_path / "ada.db")
    offline = chinwag.connect("127.0.0.1:1", session("ada"), store=store, wait_s=None, drain_s=0)
    async with offline as ada:
        handle = ada.channel(group_id).post("left behind")
    with pytest.raises(errors.ClientClosed):
        await handle
    async with chinwag.connect(target, session("ada"), store=store) as ada:
        seen = Application(ada)
        await seen.until(lambda: seen.of(ev.SendResolved))
        resolved = seen.of(ev.SendResolved)[0]
        assert resolved.client_message_id == handle.client_message_id
        assert resolved.error is None
        message = await ada.channel(group_id).message(resolved.message_id)
        assert message.content.text == "left behind"
    assert store.load().sends == []
    store.close()


async def test_an_application_that_does_not_read(bare_server: Served) -> None:
    """Memory stays bounded, sends are answered all the same, and nothing is missed later."""
    target = bare_server.target
    lazy = chinwag.connect(target, session("bob"))
    lazy._inbox._max_events = 50
    async with chinwag.connect(target, session("ada")) as ada, lazy as bob:
        group = await ada.create_group("", ["bob"])
        for round_ in range(4):
            posted = [group.post(f"{round_} {number}") for number in range(100)]
            await asyncio.gather(*posted)
            sent = await asyncio.wait_for(bob.channel(group.id).send(f"bob {round_}"), 10)
            assert sent.message_id > 0
            assert len(bob._inbox) < 300
        heard = Application(bob)
        await heard.until(lambda: len(heard.texts) == 404)
        ids = [event.entry.id for event in heard.of(ev.EntryEvent)]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_broadcast_channels_are_looked_at(bare_server: Served) -> None:
    target = bare_server.target
    async with (
        chinwag.connect(target, session("ada")) as ada,
        chinwag.connect(target, session("bob")) as bob,
    ):
        heard = Application(bob)
        news = await ada.create_broadcast("news", is_public=True)
        mine = await bob.join(news.id)
        await news.send("one")
        head = (await mine.view()).channel
        assert head.kind == channel_pb2.CHANNEL_KIND_BROADCAST
        bob.look(ev.Cursor(news.id, head.generation, head.head_id - 1))
        await heard.until(lambda: heard.texts == ["one"])
        await news.send("two")
        await heard.until(lambda: heard.texts == ["one", "two"])
        mine.look_away()
        await news.send("three")
        await ada.create_group("", ["bob"])
        await heard.until(lambda: len(heard.of(ev.ChannelOpened)) == 2)
        assert heard.texts == ["one", "two"]


async def test_a_look_from_the_head(bare_server: Served) -> None:
    target = bare_server.target
    async with (
        chinwag.connect(target, session("ada")) as ada,
        chinwag.connect(target, session("bob")) as bob,
    ):
        heard = Application(bob)
        news = await ada.create_broadcast("news", is_public=True)
        mine = await bob.join(news.id)
        await news.send("unseen")
        await mine.look()
        await asyncio.sleep(0.2)
        await news.send("seen")
        await heard.until(lambda: heard.texts == ["seen"], 2)


async def test_many_clients_share_a_connection(bare_server: Served) -> None:
    shared = bare_server.channel()
    names = [f"u{number}" for number in range(30)]
    clients = [chinwag.connect(bare_server.target, session(n), channel=shared) for n in names]
    await asyncio.gather(*(client.start() for client in clients))
    applications = [Application(client) for client in clients]
    group = await clients[0].create_group("all", names[1:])
    await asyncio.gather(*(client.channel(group.id).send("hi") for client in clients))
    for application in applications:
        await application.until(lambda a=application: len(a.texts) == 30)  # type: ignore[misc]
    orders = {tuple(m.message_id for m in a.of(ev.MessageReceived)) for a in applications}
    assert len(orders) == 1
    await asyncio.gather(*(client.close() for client in clients))
