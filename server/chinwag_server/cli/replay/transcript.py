"""Conversations as files: one message a line, `[HH:MM] <nick> text`, in order."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chinwag_server.cli.exits import CommandError, Exit

_LINE = re.compile(r"^\[(\d\d):(\d\d)\] <([^>]+)> ?(.*)$")
MAX_TEXT = 100_000
OTHERS = "others"


@dataclass(slots=True, frozen=True)
class Line:
    """A message of a transcript.

    Attributes:
        at_s: When it was said, seconds since the first line; lines of a minute spread over it.
        nick: Who said it; "" if the others' account speaks for them.
    """

    at_s: float
    nick: str
    text: str


@dataclass(slots=True, frozen=True)
class Transcript:
    """A file's conversation.

    Attributes:
        nicks: Who gets an account of their own, the busiest first.
        spoken_for: How many lines, and how many people, the others' account speaks for.
        skipped: Lines that are no message.
    """

    name: str
    lines: list[Line]
    nicks: list[str]
    spoken_for: tuple[int, int]
    skipped: int


def read(path: Path, people: int) -> Transcript:
    """Reads a transcript.

    Args:
        people: How many nicks get an account of their own.

    Raises:
        CommandError: The file cannot be read, or holds no message.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", Exit.LOCAL) from error
    said: list[tuple[int, str, str]] = []
    skipped = 0
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match is None or not match[4]:
            skipped += bool(line)
            continue
        said.append((int(match[1]) * 60 + int(match[2]), match[3], match[4][:MAX_TEXT]))
    if not said:
        raise CommandError(f"{path} holds no line of the form `[HH:MM] <nick> text`", Exit.USAGE)
    counts = Counter(nick for _, nick, _ in said)
    nicks = [nick for nick, _ in counts.most_common(people)]
    own = set(nicks)
    others = [nick for _, nick, _ in said if nick not in own]
    lines = [
        Line(at, nick if nick in own else "", text)
        for at, (_, nick, text) in zip(_times(said), said, strict=True)
    ]
    return Transcript(path.stem, lines, nicks, (len(others), len(set(others))), skipped)


def _times(said: list[tuple[int, str, str]]) -> list[float]:
    """Seconds since the first line, never falling, over midnight too."""
    in_minute = Counter[int]()
    minutes: list[int] = []
    day = 0
    for index, (minute, _, _) in enumerate(said):
        if index and minute + day < minutes[-1] - 720:
            day += 1440
        minutes.append(max(minute + day, minutes[-1] if minutes else 0))
    totals = Counter(minutes)
    times = []
    for minute in minutes:
        times.append((minute - minutes[0]) * 60 + 60 * in_minute[minute] / totals[minute])
        in_minute[minute] += 1
    return times
