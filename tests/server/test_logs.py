"""Logs carry ids, and never a text or a token."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from chinwag.chat.v1 import channel_pb2, chat_service_pb2_grpc, connect_pb2, message_pb2
from chinwag.chat.v1 import chat_service_pb2 as pb
from chinwag_server.observe.logs import describe, log_loop_error, set_log_fields, setup_logs
from tests.server.serving import Served, bearer

log = logging.getLogger("test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_json_line(stream: io.StringIO) -> None:
    setup_logs("info", "json", stream)
    set_log_fields(request_id="r1", user_id="ann", method="/a.B/C", api_key_id="")
    log.info("what %s", "happened", extra={"channel_id": "c1", "secret": "xyz"})
    log.debug("not this")
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "test",
        "message": "what happened",
        "request_id": "r1",
        "user_id": "ann",
        "method": "/a.B/C",
        "channel_id": "c1",
    }


async def test_fields_belong_to_their_task(stream: io.StringIO) -> None:
    setup_logs("info", "json", stream)

    async def call(name: str) -> None:
        set_log_fields(request_id=name)
        await asyncio.sleep(0)
        log.info("hello")

    await asyncio.gather(*(asyncio.ensure_future(call(name)) for name in "abc"))
    assert [line["request_id"] for line in lines(stream)] == ["a", "b", "c"]


def test_a_line_for_people_is_one_line(stream: io.StringIO) -> None:
    setup_logs("info", "human", stream)
    log.warning("a\nb", extra={"channel_id": "c\r\n12:00:00 ERROR forged"})
    assert stream.getvalue().count("\n") == 1
    assert "WARNING a\\nb channel_id=c\\r\\n12:00:00" in stream.getvalue()


def test_auto_is_json_away_from_a_terminal(stream: io.StringIO) -> None:
    setup_logs("info", "auto", stream)
    log.info("x")
    assert lines(stream)[0]["message"] == "x"


def test_exceptions_tell_where_and_not_what(stream: io.StringIO) -> None:
    setup_logs("info", "json", stream)
    try:
        try:
            dict[str, int]()["the secret text"]
        except KeyError as error:
            raise ValueError("token abc") from error
    except ValueError:
        log.exception("it failed")
    text = stream.getvalue()
    assert "secret" not in text
    assert "abc" not in text
    message = lines(stream)[0]["message"]
    assert message.startswith("it failed: ValueError at server/test_logs.py:")
    assert "; from KeyError at" in message


async def test_a_lost_task_tells_no_text(stream: io.StringIO) -> None:
    setup_logs("info", "json", stream)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)

    async def fail() -> None:
        raise ValueError("the secret text")

    task = loop.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    loop.set_exception_handler(None)
    (line,) = lines(stream)
    assert line["message"].startswith("Task exception was never retrieved: ValueError at")
    assert "secret" not in stream.getvalue()


def test_texts_of_the_system_are_told() -> None:
    assert describe(sqlite3.OperationalError("disk is full")) == "OperationalError: disk is full"
    assert describe(FileNotFoundError(2, "No such file")).startswith("FileNotFoundError: [Errno 2]")
    assert describe(ValueError("x")) == "ValueError"


async def test_a_server_at_debug_level_logs_no_text_and_no_token(
    stream: io.StringIO, bare_server: Served
) -> None:
    setup_logs("debug", "json", stream)
    stub: Any = bare_server.stub(chat_service_pb2_grpc.ChatServiceStub)
    metadata = bearer("ann/tokentokentoken")
    created = await stub.CreateChannel(
        pb.CreateChannelRequest(
            kind=channel_pb2.CHANNEL_KIND_GROUP, name="secretname", member_user_ids=["bob"]
        ),
        metadata=metadata,
    )
    good = "01890a5d-ac96-774b-bcce-b302099a8057"
    for client_message_id, channel_id in ((good, created.channel.channel.id), ("bad", "none")):
        request = connect_pb2.SendMessageRequest(
            channel_id=channel_id,
            client_message_id=client_message_id,
            content=message_pb2.MessageContent(text="secrettext"),
        )
        call = stub.SendMessage(request, metadata=metadata)
        await asyncio.gather(call, return_exceptions=True)
    text = stream.getvalue()
    assert text
    for secret in ("secrettext", "secretname", "tokentoken"):
        assert secret not in text
