"""Frames that are known as good without the validator: it must say the same."""

from __future__ import annotations

from typing import Any

import protovalidate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinwag.chat.v1 import connect_pb2, message_pb2
from chinwag.presence.v1 import presence_pb2
from chinwag_server.chat.frames_in import check
from chinwag_server.chat.plain import is_plain

GOOD_ID = "01890a5d-ac96-774b-bcce-b302099a8057"

ids = st.sampled_from(["c", "c" * 64, "c" * 65, "", "ä" * 33, "ä" * 32, "d1"])
uuids = st.sampled_from([GOOD_ID, GOOD_ID + "\n", GOOD_ID.upper(), "", GOOD_ID.replace("-7", "-4")])
numbers = st.sampled_from([0, 1, -1, 2**62])
texts = st.sampled_from(["hello", "", "x" * 100_000, "x" * 100_001, "😀" * 100_000, "\n"])
contents = st.builds(
    message_pb2.MessageContent,
    text=texts,
    mentioned_user_ids=st.lists(ids, max_size=2),
    mentions_everyone=st.booleans(),
    metadata=st.dictionaries(ids, st.just("v"), max_size=1),
)
sends = st.builds(
    connect_pb2.SendMessageRequest,
    channel_id=ids,
    client_message_id=uuids,
    content=st.none() | contents,
    reply_to_id=numbers,
    thread_root_id=numbers,
)
marks = st.builds(connect_pb2.Mark, channel_id=ids, read_id=numbers, delivered_id=numbers)
pings = st.builds(
    connect_pb2.Ping, id=numbers, activity=st.none() | st.builds(presence_pb2.Activity)
)
frames = st.builds(
    connect_pb2.ConnectRequest,
    sends=st.lists(sends, max_size=3),
    marks=st.lists(marks, max_size=3),
    ping=st.none() | pings,
    frame_id=numbers,
    hello=st.none() | st.just(connect_pb2.Hello()),
)
validator = protovalidate.Validator()


@given(frames)
def test_what_is_plain_breaks_no_rule(frame: connect_pb2.ConnectRequest) -> None:
    if is_plain(frame):
        assert not validator.collect_violations(frame)
        assert check(frame, ()).whole is None


def send(**fields: Any) -> connect_pb2.SendMessageRequest:
    content = message_pb2.MessageContent(text="hello")
    return connect_pb2.SendMessageRequest(
        channel_id="c1", client_message_id=GOOD_ID, content=content, **fields
    )


@pytest.mark.parametrize(
    "frame",
    [
        connect_pb2.ConnectRequest(sends=[send()] * 100, frame_id=7),
        connect_pb2.ConnectRequest(sends=[send(reply_to_id=3, thread_root_id=1)]),
        connect_pb2.ConnectRequest(marks=[connect_pb2.Mark(channel_id="c1", read_id=1)] * 1000),
        connect_pb2.ConnectRequest(ping=connect_pb2.Ping(id=1)),
        connect_pb2.ConnectRequest(sends=[send()], ping=connect_pb2.Ping(id=1)),
    ],
)
def test_the_usual_frames_are(frame: connect_pb2.ConnectRequest) -> None:
    assert is_plain(frame)


@pytest.mark.parametrize(
    "frame",
    [
        connect_pb2.ConnectRequest(),
        connect_pb2.ConnectRequest(frame_id=1),
        connect_pb2.ConnectRequest(sends=[send()] * 101),
        connect_pb2.ConnectRequest(hello=connect_pb2.Hello(), sends=[send()]),
        connect_pb2.ConnectRequest(
            ping=connect_pb2.Ping(
                activity=presence_pb2.Activity(state=presence_pb2.ACTIVITY_STATE_ACTIVE)
            )
        ),
    ],
)
def test_all_others_go_to_the_validator(frame: connect_pb2.ConnectRequest) -> None:
    assert not is_plain(frame)
