"""The commands for people, as processes against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chinwag_server.cli.exits import Exit
from chinwag_server.cli.replay.server import OwnServer


@pytest.fixture
async def target() -> AsyncIterator[str]:
    server = OwnServer()
    await server.start()
    yield server.target
    await server.stop()
    server.remove()


async def chinwag(home: Path, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Runs the command; gives its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chinwag_server.cli",
        *words,
        env={**os.environ, "CHINWAG_HOME": str(home)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_from_sign_up_to_a_conversation(target: str, tmp_path: Path) -> None:
    async def run(*words: str, stdin: str = "") -> str:
        code, out, err = await chinwag(tmp_path, *words, stdin=stdin)
        assert code == Exit.OK, err
        return out

    for name in ("ann", "bob"):
        await run("signup", name, "--server", target, "--profile", name, stdin="correct horse\n")
    assert (tmp_path / "ann.json").stat().st_mode & 0o777 == 0o600
    tail = asyncio.ensure_future(run("tail", "--profile", "bob", "-n", "2", "--json"))
    await asyncio.sleep(2)
    first = json.loads(await run("send", "@bob", "one", "--profile", "ann", "--json"))
    await run("send", "@bob", "--profile", "ann", stdin="two\n")
    seen = [json.loads(line) for line in (await tail).splitlines()]
    assert [message["text"] for message in seen] == ["one", "two"]
    assert seen[0]["id"] == first["id"]
    history = (await run("history", "@ann", "--profile", "bob")).splitlines()
    assert [line.partition("ann: ")[2] for line in history] == ["one", "two"]
    channel = json.loads(await run("channels", "--profile", "bob", "--json"))
    assert (channel["kind"], channel["unread"]) == ("direct", 2)
    await run("login", "ann", "--server", target, "--profile", "again", stdin="correct horse\n")


async def test_what_goes_wrong_is_said_and_has_its_code(target: str, tmp_path: Path) -> None:
    code, _, err = await chinwag(tmp_path, "channels")
    assert (code, "not logged in" in err) == (Exit.USAGE, True)
    login = ("login", "nobody", "--server", target)
    code, _, err = await chinwag(tmp_path, *login, stdin="wrong password\n")
    assert (code, "wrong name or wrong password" in err) == (Exit.REFUSED, True)
    signup = ("signup", "X", "--server", target)
    code, _, err = await chinwag(tmp_path, *signup, stdin="correct horse\n")
    assert (code, "username" in err) == (Exit.REFUSED, True)
    away = ("signup", "ann", "--server", "127.0.0.1:1")
    code, _, err = await chinwag(tmp_path, *away, stdin="correct horse\n")
    assert (code, "cannot be reached" in err) == (Exit.UNREACHABLE, True)
