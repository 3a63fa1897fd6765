"""What people write, as the contract wants it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chinwag.chat.v1 import message_pb2
from chinwag.errors import InvalidArgument


def content_of(
    content: str | message_pb2.MessageContent,
    mentions: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> message_pb2.MessageContent:
    """A text, or a whole content, with mentions and metadata added; the argument stays as it is.

    Raises:
        InvalidArgument: The text cannot be written as UTF-8 (a lone surrogate).
    """
    made = message_pb2.MessageContent()
    try:
        if isinstance(content, str):
            made.text = content
        else:
            made.CopyFrom(content)
        made.mentioned_user_ids.extend(mentions)
        made.metadata.update(metadata or {})
    except ValueError as error:  # UnicodeEncodeError is one
        raise InvalidArgument(
            f"not valid as text: {error}",
            reason="INVALID_FIELD",
            code=3,
            fields={"content": "cannot be written as UTF-8"},
        ) from error
    return made
