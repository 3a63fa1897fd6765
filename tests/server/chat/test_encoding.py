"""Bytes made by hand are those that protobuf makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chinwag.chat.v1 import connect_pb2, entry_pb2, message_pb2
from chinwag_server.chat import encoding
from chinwag_server.chat.entries import timestamp

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.integers(0, 2**63 - 1)
times = st.integers(1, 2**52)


@given(numbers)
def test_varint(number: int) -> None:
    entry = entry_pb2.Entry(id=number)
    assert entry.SerializeToString() == (b"\x10" + encoding.varint(number) if number else b"")


@given(texts, numbers.filter(bool), times, texts, texts, numbers, texts, texts, numbers, numbers)
def test_message_sent(
    channel_id: str,
    entry_id: int,
    time_us: int,
    actor_id: str,
    device_id: str,
    count: int,
    key: str,
    text: str,
    reply_to_id: int,
    thread_root_id: int,
) -> None:
    content = message_pb2.MessageContent(text=text, metadata={"a": "b"})
    key = f"k{key}"  # never empty
    entry = entry_pb2.Entry(
        channel_id=channel_id,
        id=entry_id,
        create_time=timestamp(time_us),
        actor_id=actor_id,
        device_id=device_id,
        timeline_count=count,
        count_rule=1,
        message_sent=entry_pb2.MessageSent(
            client_message_id=key,
            content=content,
            reply_to_id=reply_to_id,
            thread_root_id=thread_root_id,
        ),
    )
    made = encoding.message_sent(
        channel_id=channel_id,
        entry_id=entry_id,
        time_us=time_us,
        actor_id=actor_id,
        device_id=device_id,
        timeline_count=count,
        count_rule=1,
        client_message_id=key,
        content=content.SerializeToString(deterministic=True),
        reply_to_id=reply_to_id,
        thread_root_id=thread_root_id,
    )
    assert made == entry.SerializeToString(deterministic=True)


@given(texts, texts, numbers.filter(bool), times | st.just(0))
def test_sent_result(key: str, channel_id: str, message_id: int, time_us: int) -> None:
    key = f"k{key}"
    result = connect_pb2.SendResult(
        client_message_id=key,
        channel_id=channel_id,
        message_id=message_id,
        create_time=timestamp(time_us) if time_us else None,
    )
    made = encoding.sent_result(key, channel_id, message_id, time_us)
    assert connect_pb2.SendResult.FromString(made) == result
    assert made == result.SerializeToString(deterministic=True)
