"""The blocking client against a real node, which is a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chinwag import blocking, errors
from chinwag import events as ev
from chinwag.chat.v1 import channel_pb2, chat_service_pb2
from chinwag.session import Session
from tests.sdk.node_process import NodeProcess


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node in a process of its own, with stand-in accounts."""
    with NodeProcess(tmp_path / "data") as running:
        yield running


def session(user_id: str) -> Session:
    return Session(user_id, f"{user_id}1", f"{user_id}/{user_id}1")


def group_of(client: blocking.Client, *members: str) -> str:
    request = chat_service_pb2.CreateChannelRequest(
        kind=channel_pb2.CHANNEL_KIND_GROUP, member_user_ids=members
    )
    return client.call(client.chat.CreateChannel, request).channel.channel.id


def test_a_message_there_and_back(node: NodeProcess) -> None:
    with (
        blocking.connect(node.target, session("ada")) as ada,
        blocking.connect(node.target, session("bob")) as bob,
    ):
        group = group_of(ada, "bob")
        sent = ada.send(group, "hello", timeout_s=10)
        handles = [ada.post(group, str(number)) for number in range(100)]
        ids = [handle.result(10).message_id for handle in handles]
        assert ids == sorted(ids)
        assert ids[0] > sent.message_id
        texts = []
        for event in bob.events(timeout_s=10):
            if isinstance(event, ev.MessageReceived):
                texts.append(event.text)
                if len(texts) == 101:
                    bob.mark_read(group, event.message_id)
                    break
        assert texts == ["hello", *map(str, range(100))]


def test_refusals(node: NodeProcess) -> None:
    with blocking.connect(node.target, session("ada")) as ada:
        with pytest.raises(errors.NotFound):
            ada.send("nowhere", "hello", timeout_s=10)
        with pytest.raises(errors.NotFound):
            ada.call(ada.chat.GetChannel, chat_service_pb2.GetChannelRequest(channel_id="x"))


def test_no_server() -> None:
    with (
        pytest.raises(errors.Unavailable),
        blocking.connect("127.0.0.1:1", session("ada"), wait_s=0.5),
    ):
        pass


def test_events_end_when_the_client_is_closed(node: NodeProcess) -> None:
    with blocking.connect(node.target, session("ada")) as ada:
        seen: list[ev.Event] = []
        listening = threading.Thread(target=lambda: seen.extend(ada.events()))
        listening.start()
        time.sleep(0.1)
        ada.close()
        listening.join(5)
        assert not listening.is_alive()
        assert any(isinstance(event, ev.ConnectionChanged) for event in seen)


def test_a_restart_of_the_server(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "data") as node:
        port = node.port
        client = blocking.connect(node.target, session("ada"))
        client.__enter__()
        group = group_of(client)
        client.send(group, "before", timeout_s=10)
    handle = client.post(group, "meanwhile")
    with NodeProcess(tmp_path / "data", port=port):
        assert handle.result(30).message_id == 3
        client.close()
