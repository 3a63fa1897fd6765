"""Logs as JSON lines or for people, with the ids of what runs.

A record carries the fields of the call that it was written in (`set_log_fields`) and those of
`extra=` whose names are in `EXTRA_FIELDS`; other attributes are left out, so that no text or token
gets in by the way. For the same reason an exception is shown by its type and its places in the
code, and by its text only where that cannot come from a client.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
import time
import traceback
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

EXTRA_FIELDS = ("channel_id", "user_id", "device_id", "session_id", "api_key_id", "address")
# Their texts are the operating system's, SQLite's or ours.
_TELLING = (OSError, sqlite3.Error, AssertionError, NotImplementedError)
_MAX_FRAMES = 12

_fields: ContextVar[dict[str, str]] = ContextVar("log_fields")


def set_log_fields(**fields: str) -> None:
    """The ids that records of the running call (task) carry; replaces those set before."""
    _fields.set(fields)


def log_fields() -> dict[str, str]:
    """The fields of the running call that are not empty."""
    return {name: value for name, value in _fields.get({}).items() if value}


def describe(error: BaseException) -> str:
    """An exception by type and place: "ValueError at chat/sends.py:12 in send < ...".

    Its text is left out unless it cannot hold a client's words.
    """
    text = f": {error}" if isinstance(error, _TELLING) and str(error) else ""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    places = " < ".join(
        f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} in {frame.name}"
        for frame in reversed(frames)
    )
    described = f"{type(error).__name__}{text}" + (f" at {places}" if places else "")
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{described}; from {describe(cause)}" if cause is not None else described


def _ids(record: logging.LogRecord) -> dict[str, str]:
    fields = log_fields()
    for name in EXTRA_FIELDS:
        value = record.__dict__.get(name)
        if value:
            fields[name] = str(value)
    return fields


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        text += f": {describe(record.exc_info[1])}"
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, then the ids."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_ids(record),
        }
        return json.dumps(line, ensure_ascii=False)


class HumanFormatter(logging.Formatter):
    """One line for people: local time, level, message, ids."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        ids = "".join(f" {name}={value}" for name, value in _ids(record).items())
        # A line break in a client's id must not look like a line of its own.
        text = f"{_message(record)}{ids}".replace("\n", "\\n").replace("\r", "\\r")
        return f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {text}"


def setup_logs(level: str, form: str, stream: TextIO | None = None) -> None:
    """Sends all logs of the process to one stream.

    Args:
        level: "debug", "info", "warning" or "error".
        form: "json", "human", or "auto": human on a terminal, otherwise JSON.
        stream: Default: the standard error stream.
    """
    stream = stream or sys.stderr
    human = form == "human" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter() if human else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # They speak of every call, and of what arguments it had.
    for name in ("asyncio", "grpc", "grpc._cython"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler; asyncio's own quotes the exception's text."""
    error = context.get("exception")
    what = describe(error) if isinstance(error, BaseException) else "no exception"
    logging.getLogger("asyncio").error("%s: %s", context.get("message", "error"), what)
