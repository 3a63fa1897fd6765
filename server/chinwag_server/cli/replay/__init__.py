"""`chinwag replay`: plays conversations through real clients and verifies every delivery."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.replay.report import Report
from chinwag_server.cli.replay.transcript import Transcript, read

GROUP_MEMBERS = 100
# The host and the others' account are members too.
MAX_PEOPLE = GROUP_MEMBERS - 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a conversation")
    parser.add_argument(
        "--people",
        type=int,
        default=MAX_PEOPLE,
        metavar="N",
        help=f"how many nicks of a file get an account of their own (at most {MAX_PEOPLE}); one "
        "account speaks for the rest",
    )
    parser.add_argument(
        "--speed", default="max", metavar="X", help="times faster than it was said, or max"
    )
    parser.add_argument(
        "--server",
        type=_targets,
        metavar="TARGET[,TARGET...]",
        help="any node of a running server, or several with commas; without it the replay starts "
        "one of its own",
    )
    parser.add_argument(
        "--api-key",
        default=os.environ.get("CHINWAG_API_KEY", ""),
        metavar="KEY",
        help="for --server: may write users, channels and messages and issue tokens "
        "[CHINWAG_API_KEY]",
    )
    parser.add_argument("--devices", type=int, default=2, metavar="N", help="devices a person")
    parser.add_argument(
        "--kill-every",
        type=float,
        default=0.0,
        metavar="S",
        help="kill the replay's own server with SIGKILL every so many seconds",
    )
    parser.add_argument("--json", action="store_true", help="for a script; no progress bar")


def _targets(text: str) -> str:
    from chinwag_server.cli.people import targets  # noqa: PLC0415 - imports grpc

    return targets(text)


def run(args: argparse.Namespace) -> int:
    speed = _speed(args.speed)
    if not 1 <= args.people <= MAX_PEOPLE or not 1 <= args.devices <= 20:
        raise CommandError(
            f"--people is from 1 to {MAX_PEOPLE}, --devices from 1 to 20", Exit.USAGE
        )
    if args.server and args.kill_every:
        raise CommandError("--kill-every kills the replay's own server alone", Exit.USAGE)
    if args.server and not args.api_key:
        raise CommandError(
            "--server needs an API key: `chinwag apikey create` makes one", Exit.USAGE
        )
    transcripts = [read(path, args.people) for path in args.files]
    report = Report(notes=list(_notes(transcripts)))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    asyncio.run(_replay(args, transcripts, speed, report))
    if args.kill_every and not report.kills and report.ok:
        report.difference = "no kill happened: the replay ended before the first one"
    if args.json:
        print(json.dumps(report.as_dict()))
    else:
        print("\n".join(report.lines()))
    return Exit.OK if report.ok else Exit.FAILED


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    with suppress(ValueError):
        if (speed := float(text)) > 0:
            return speed
    raise CommandError(f"--speed is a number above 0 or max, got {text!r}", Exit.USAGE)


def _notes(transcripts: list[Transcript]) -> list[str]:
    notes = []
    for transcript in transcripts:
        lines, people = transcript.spoken_for
        if people:
            notes.append(
                f"{transcript.name}: one account spoke {lines} lines for {people} people beyond "
                "the member limit"
            )
        if transcript.skipped:
            notes.append(f"{transcript.name}: {transcript.skipped} lines are no message")
    return notes


async def _replay(
    args: argparse.Namespace, transcripts: list[Transcript], speed: float, report: Report
) -> None:
    from chinwag_server.cli.replay.server import OwnServer  # noqa: PLC0415

    if args.server:
        await _play(args, transcripts, speed, report, args.server, args.api_key)
        return
    own = OwnServer()
    try:
        key = own.make_key()
        await own.start()
        killing = asyncio.ensure_future(_kill(own, args.kill_every))
        try:
            await _play(args, transcripts, speed, report, own.target, key)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
            report.kills = own.kills
    finally:
        await own.stop()
        own.remove()


async def _kill(own: object, every_s: float) -> None:
    from chinwag_server.cli.replay.server import OwnServer  # noqa: PLC0415

    assert isinstance(own, OwnServer)
    while every_s:
        await asyncio.sleep(every_s)
        await own.kill()
        await own.start()


async def _play(
    args: argparse.Namespace,
    transcripts: list[Transcript],
    speed: float,
    report: Report,
    target: str,
    key: str,
) -> None:
    from rich.progress import Progress  # noqa: PLC0415

    from chinwag_server.cli.replay.admin import Admin  # noqa: PLC0415
    from chinwag_server.cli.replay.play import Player  # noqa: PLC0415
    from chinwag_server.cli.replay.verify import Difference  # noqa: PLC0415

    admin = Admin(target, key)
    shown = not args.json and sys.stderr.isatty()
    with Progress(disable=not shown) as bar:
        task = bar.add_task("saying", total=sum(len(t.lines) for t in transcripts))
        player = Player(
            admin,
            target,
            transcripts,
            devices=args.devices,
            speed=speed,
            progress=lambda said, _total: bar.update(task, completed=said),
        )
        try:
            await player.run(report)
        except Difference as difference:
            report.difference = str(difference)
        finally:
            await admin.close()
