"""Messages of the product as they are compared: without what differs between any two nodes."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

# Drawn or counted by each node for itself: that there is one is compared, not which.
_OPAQUE = frozenset({"session_id", "stamp", "cursor", "next_page_token", "generation"})
_DETAILS: tuple[type[Message], ...] = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
    error_details_pb2.BadRequest,
)
_CHANNEL_ID = re.compile(r"\b[cd][a-z2-7]{26,32}\b")
_REQUEST_ID = re.compile(r"\b[0-9a-f]{16}\b")


class Names:
    """What the names in a story stand for on one node: "$0" is the first channel that appeared,
    and "~" in a name makes it this story's own.

    Args:
        story: What stands for "~": never the same for two stories of a node.
    """

    def __init__(self, story: str) -> None:
        self._story = story
        self._by_id: dict[str, str] = {}
        self._ids: list[str] = []

    def resolve(self, text: str) -> str:
        """Text of the story as this node is told; of a channel that is not there, its name."""
        if text[:1] == "$" and text[1:].isdigit() and int(text[1:]) < len(self._ids):
            return self._ids[int(text[1:])]
        return text.replace("~", self._story)

    def normal(self, text: str) -> str:
        """Text of this node as it is compared."""

        def name(match: re.Match[str]) -> str:
            found = match.group()
            if found not in self._by_id:
                self._by_id[found] = f"${len(self._ids)}"
                self._ids.append(found)
            return self._by_id[found]

        return _REQUEST_ID.sub("REQUEST", _CHANNEL_ID.sub(name, text)).replace(self._story, "~")


def resolve(message: Message, names: Names) -> Message:
    """A copy of a message with this node's channel ids."""
    copy = type(message)()
    copy.CopyFrom(message)
    _resolve(copy, names)
    return copy


def _resolve(message: Message, names: Names) -> None:
    for field, value in message.ListFields():
        if _is_map(field):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                _resolve(part, names)
        elif field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                value[:] = [names.resolve(text) for text in value]
            else:
                setattr(message, field.name, names.resolve(value))


def normal(message: Message, names: Names) -> Any:
    """A message as nested tuples."""
    if isinstance(message, Timestamp):
        return "TIME"
    if isinstance(message, status_pb2.Status):
        return _status(message, names)
    return tuple((field.name, _field(field, value, names)) for field, value in message.ListFields())


def _field(field: FieldDescriptor, value: Any, names: Names) -> Any:
    if field.name in _OPAQUE:
        return "OPAQUE"
    if _is_map(field):
        return tuple(sorted((str(key), str(part)) for key, part in value.items()))
    if field.is_repeated:
        return tuple(_value(field, part, names) for part in value)
    return _value(field, value, names)


def _value(field: FieldDescriptor, value: Any, names: Names) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return normal(value, names)
    return names.normal(value) if field.type == FieldDescriptor.TYPE_STRING else value


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _status(status: status_pb2.Status, names: Names) -> Any:
    details = []
    for packed in status.details:
        for kind in _DETAILS:
            found = kind()
            if packed.Unpack(found):
                if isinstance(found, error_details_pb2.RetryInfo):
                    found.retry_delay.nanos = 0  # what is left of a moment
                details.append((kind.DESCRIPTOR.name, normal(found, names)))
                break
        else:
            details.append((packed.type_url, packed.value))
    return status.code, names.normal(status.message), tuple(details)
