"""The terminal client, driven by keys against a real server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.pilot import Pilot
from textual.widgets import Static

import chinwag
from chinwag.chat.v1 import connect_pb2
from chinwag_server.cli.chat.app import ChatApp
from tests.server.serving import Served


def app_of(served: Served, user_id: str) -> ChatApp:
    session = chinwag.Session(user_id, "tty", f"{user_id}/tty")
    client = chinwag.connect(
        served.target,
        session,
        wait_s=None,
        subscriptions=connect_pb2.Subscriptions(typing=True),
    )
    return ChatApp(client, user_id, user_id)


def shown(app: ChatApp) -> str:
    return str(app.query_one("#messages", Static).content)


def has_width(app: ChatApp, width: int) -> bool:
    return app.query_one("#channels").outer_size.width == width


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    for _ in range(200):
        await pilot.pause(0.02)
        if holds():
            return
    raise AssertionError("it did not come to be")


async def test_two_people_talk_on_80x24_and_over_a_resize(bare_server: Served) -> None:
    ann, bob = app_of(bare_server, "ann"), app_of(bare_server, "bob")
    async with (
        ann.run_test(size=(80, 24)) as at_ann,
        bob.run_test(size=(80, 24)) as at_bob,
    ):
        group = await ann.client.create_group("lunch", ["bob"])
        await until(at_ann, lambda: group.id in ann.model.rooms and ann.room_id == group.id)
        await until(at_bob, lambda: bob.room_id == group.id)
        # Enter is handled in order with the keys around it, as in a paste.
        await at_ann.press(*"one", "enter", *"two", "enter")
        await until(at_bob, lambda: "one" in shown(bob) and "two" in shown(bob))
        await at_bob.press(*"three", "enter")
        await until(at_ann, lambda: "three" in shown(ann))
        texts = [line.text for line in ann.model.rooms[group.id].lines]
        assert texts == ["one", "two", "three"]
        assert texts == [line.text for line in bob.model.rooms[group.id].lines]
        for width, list_width in ((60, 14), (100, 24), (50, 14)):
            await at_ann.resize_terminal(width, 20)
            await until(at_ann, partial(has_width, ann, list_width))
            assert "three" in shown(ann)
