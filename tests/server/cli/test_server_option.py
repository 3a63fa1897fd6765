"""`--server`: any node, or several with commas."""

from __future__ import annotations

import argparse

import pytest

from chinwag.session import Session
from chinwag_server.cli import chat, replay, tail
from chinwag_server.cli.people import DEFAULT_TARGET, server_of


def parsed(module: object, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(words)


@pytest.mark.parametrize(("module", "words"), [(tail, []), (chat, []), (replay, ["file"])])
def test_one_or_several(module: object, words: list[str]) -> None:
    assert parsed(module, *words).server is None
    assert parsed(module, *words, "--server", "a:1").server == "a:1"
    assert parsed(module, *words, "--server", "a:1, b:2,a:1").server == "a:1,b:2"
    with pytest.raises(argparse.ArgumentError, match="expected an address"):
        parsed(module, *words, "--server", "a:1,,b:2")


def test_the_login_says_where_unless_the_option_does() -> None:
    kept = Session("ada", "d", "token", address="kept:1,kept:2")
    assert server_of(parsed(tail), kept) == "kept:1,kept:2"
    assert server_of(parsed(tail, "--server", "new:1"), kept) == "new:1"
    assert server_of(parsed(tail), Session("ada", "d", "token")) == DEFAULT_TARGET
