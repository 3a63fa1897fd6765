"""From bytes to a message that keeps the rules of the contract."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message
from protovalidate import Validator, Violation

from chinwag_server.rpc.errors import Refusal

# What an error names: it travels in trailers, of which clients take 8 KiB.
MAX_VIOLATIONS = 8
MAX_PATH = 160
MAX_PROBLEM = 200

_validator = Validator()


def parse(message_type: type[Message], data: bytes) -> Message:
    """A message that keeps its rules.

    Raises:
        Refusal: MALFORMED, INVALID_FIELD.
    """
    try:
        message = message_type.FromString(data)
    except DecodeError as error:
        # Its text may quote the bytes.
        raise Refusal(
            "MALFORMED",
            f"the bytes are no {message_type.DESCRIPTOR.full_name}: broken encoding, or a string "
            "that is not UTF-8",
        ) from error
    if violations := _validator.collect_violations(message):
        raise invalid([field_problem(violation) for violation in violations[:MAX_VIOLATIONS]])
    return message


def invalid(fields: list[tuple[str, str]]) -> Refusal:
    """INVALID_FIELD, naming (field path, problem) pairs."""
    path, problem = fields[0]
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    text = f"{path}: {problem}{more}" if path else f"{problem}{more}"
    return Refusal("INVALID_FIELD", text, fields=fields)


def field_problem(violation: Violation) -> tuple[str, str]:
    """A violation as (field path, what is wrong), each cut to what an error may hold."""
    path = ""
    field = violation.proto.field
    for element in field.elements if field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = getattr(element, "subscript", None)
        if subscript is not None and subscript.field in ("index", "int_key", "uint_key"):
            path += f"[{subscript.value}]"
        elif subscript is not None:
            path += f"[{subscript.value!r}]"
    problem = violation.proto.message or "breaks its rule"
    return path[:MAX_PATH], problem[:MAX_PROBLEM]
