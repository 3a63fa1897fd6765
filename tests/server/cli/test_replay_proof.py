"""The replay's proof: it must find each thing that could be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chinwag_server.cli.exits import CommandError
from chinwag_server.cli.replay.transcript import read
from chinwag_server.cli.replay.verify import Difference, Record, Seen, SentLine, verify_channel

MADE_UP = Path(__file__).parents[2] / "data" / "conversation.txt"
IRC = Path(__file__).parents[4] / "shared" / "data" / "ubuntu-irc"


def channel() -> tuple[list[Seen], list[SentLine], list[Record]]:
    """A sound channel: host and ann from the start, bob from 3 to 6."""
    log = [
        Seen(1, "channel_created", "host", "", None),
        Seen(2, "message_sent", "ann", "k1", "one"),
        Seen(3, "members_added", "host", "", None),
        Seen(4, "message_sent", "bob", "k2", "two"),
        Seen(5, "message_sent", "ann", "k3", "three"),
        Seen(6, "member_removed", "host", "", None, "bob"),
        Seen(7, "message_sent", "ann", "k4", "four"),
    ]
    sent = [
        SentLine("ann", "k1", "one", 2),
        SentLine("bob", "k2", "two", 4),
        SentLine("ann", "k3", "three", 5),
        SentLine("ann", "k4", "four", 7),
    ]
    records = [
        Record("ann", "phone", 0, list(log)),
        Record("ann", "laptop", 0, list(log)),
        Record("bob", "phone", 2, log[2:6]),
    ]
    return log, sent, records


def check(log: list[Seen], sent: list[SentLine], records: list[Record]) -> None:
    verify_channel("c", log, sent, records, {"ann": 1, "host": 1, "bob": 3}, {"bob": 6})


def test_a_sound_channel_passes() -> None:
    check(*channel())


Change = Callable[[list[Seen], list[SentLine], list[Record]], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _log, _sent, records: records[1].seen.pop(3), "too early"),
        (lambda _log, _sent, records: records[1].seen.pop(), "should have seen up to 7"),
        (lambda log, _sent, records: records[0].seen.insert(2, log[1]), "again"),
        (lambda log, _sent, records: records[2].seen.append(log[6]), "should have seen up to 6"),
        (
            lambda log, _s, records: records[0].seen.__setitem__(4, replace(log[4], text="3")),
            "differs",
        ),
        (lambda _log, _sent, records: setattr(records[2], "start_id", 3), "too late"),
        (lambda _log, _sent, records: setattr(records[2], "start_id", None), "never saw"),
        (lambda log, _sent, _records: log.pop(3), "should be"),
        (lambda _l, sent, _r: sent.append(SentLine("ann", "k9", "lost", 9)), "is not in the log"),
        (lambda log, _s, _r: log.__setitem__(1, replace(log[1], text="0")), "not what was sent"),
        (lambda _log, sent, _records: sent.pop(), "nobody sent"),
        (
            lambda log, _s, _r: log.__setitem__(4, replace(log[4], client_message_id="k1")),
            "stored twice",
        ),
        (lambda _log, sent, _records: sent.reverse(), "order of sending"),
    ],
)
def test_each_fault_is_found(change: Change, words: str) -> None:
    log, sent, records = channel()
    change(log, sent, records)
    with pytest.raises(Difference, match=words):
        check(log, sent, records)


def test_transcripts_keep_every_word(tmp_path: Path) -> None:
    file = tmp_path / "2016-01-01.txt"
    file.write_text(
        "[23:59] <ann> hi  there \n=== bob joined\n[00:00] <bob> yo\n[00:00] <cid> <3\n"
        "[00:01] <ann> \n[00:02] <bob> bye\n"
    )
    transcript = read(file, people=2)
    assert transcript.name == "2016-01-01"
    assert [(line.nick, line.text) for line in transcript.lines] == [
        ("ann", "hi  there "),
        ("bob", "yo"),
        ("", "<3"),
        ("bob", "bye"),
    ]
    assert [line.at_s for line in transcript.lines] == [0, 60, 90, 180]
    assert transcript.spoken_for == (1, 1)
    assert transcript.skipped == 2


def test_a_file_without_messages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing\n")
    with pytest.raises(CommandError, match="holds no line"):
        read(tmp_path / "x", 5)
    with pytest.raises(CommandError, match="cannot read"):
        read(tmp_path / "y", 5)


def test_real_transcripts_are_read() -> None:
    # Beside a checkout there may be real conversations; one that was made up is always there.
    for file in sorted(IRC.glob("*.txt")) or [MADE_UP]:
        transcript = read(file, 98)
        assert len(transcript.lines) > 100
        assert len(transcript.nicks) <= 98
