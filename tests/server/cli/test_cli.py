"""The command's frame: help, exit codes, and the commands of operators."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.cli import COMMANDS, main
from chinwag_server.cli.apikey import known_scopes
from chinwag_server.cli.exits import MEANING, Exit
from chinwag_server.cli.stores import STORES
from tests.server.fixtures import StartNode
from tests.server.serving import settings_for
from tests.server.standin import StandInAccount

REPOSITORY = Path(__file__).parents[3]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_table_of_exit_codes_is_current() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    assert {int(code): text for code, text in rows} == {int(c): t for c, t in MEANING.items()}


def test_help_is_fast_and_imports_nothing_large() -> None:
    code = (
        "import sys; from chinwag_server.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'grpc', 'google.protobuf', 'rich', 'textual'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout


@pytest.mark.parametrize(
    "command", ["serve", "config", "migrate", "backup", "restore", "check", "apikey"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        run(command, "--help")
    assert info.value.code == 0
    assert COMMANDS[command][1:] in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["serve", "--nosuch"], ["backup"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        run(*arguments)
    assert info.value.code == Exit.USAGE
    assert capsys.readouterr().err


def test_wrong_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "--port", "x") == Exit.USAGE
    assert capsys.readouterr().err.startswith("chinwag config: listen.port (from flag --port)")


def test_config(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHINWAG_LIMITS_REACTIONS", "7")
    assert run("config", "--json", "--port", 0) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["listen.port"] == {"value": 0, "from": "flag --port"}
    assert found["limits.reactions"] == {"value": 7, "from": "CHINWAG_LIMITS_REACTIONS"}
    assert found["data_dir"] == {"value": ".chinwag", "from": "default"}
    assert run("config") == Exit.OK
    assert re.search(r"^limits\.reactions +7 +CHINWAG_", capsys.readouterr().out, re.MULTILINE)


def test_apikey_names_the_scopes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "messages:write" in known_scopes()
    assert run("apikey", "create", "--scopes", "messages:fly") == Exit.USAGE
    assert "messages:write" in capsys.readouterr().err


# --- backup, restore, check ---


@pytest.fixture
async def stores(start_node: StartNode, tmp_path: Path) -> Path:
    """A data directory with stores, of a node that has ended."""
    real = any(store.name == "accounts" for store in STORES)
    server = await (start_node() if real else start_node(open_account=StandInAccount))
    await server.close()
    return settings_for(tmp_path / "data").data_dir


def needs_all_stores(directory: Path) -> None:
    missing = [store.file for store in STORES if not (directory / store.file).exists()]
    assert not missing, f"the node of this test makes no {missing}"


def test_backup_restore_check(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_all_stores(stores)
    file = tmp_path / "backup.tar"
    assert run("backup", file, "--data", stores, "--json") == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert set(told["stores"]) == {store.name for store in STORES}
    assert file.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.tar", "data"]

    assert run("backup", file, "--data", stores) == Exit.LOCAL
    assert "--overwrite" in capsys.readouterr().err
    assert run("backup", file, "--data", stores, "--overwrite") == Exit.OK

    other = tmp_path / "other"
    assert run("restore", file, "--data", other) == Exit.OK
    assert run("check", "--data", other, "--json") == Exit.OK
    capsys.readouterr()
    assert run("restore", file, "--data", other) == Exit.LOCAL
    assert "--overwrite" in capsys.readouterr().err
    assert run("restore", file, "--data", other, "--overwrite", "--json") == Exit.OK
    assert not [path for path in other.iterdir() if path.name.startswith(".restore")]


def test_check_finds_damage(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_all_stores(stores)
    assert run("check", "--data", stores) == Exit.OK
    assert "sound" in capsys.readouterr().out
    with (stores / "chat.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xa5" * 4096)
    assert run("check", "--data", stores, "--json") == Exit.FAILED
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert found["violations"][0]["store"] == "chat"


def test_no_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["check"], ["backup", tmp_path / "b.tar"]):
        assert run(*command, "--data", tmp_path / "none") == Exit.LOCAL
        assert "name a data directory" in capsys.readouterr().err
    assert not (tmp_path / "b.tar").exists()


def test_what_is_no_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    empty = tmp_path / "empty.tar"
    with tarfile.open(empty, "w"):
        pass
    for file in (text, empty, tmp_path / "none"):
        assert run("restore", file, "--data", tmp_path / "data") == Exit.LOCAL
        assert capsys.readouterr().err
    left = {path.name for path in (tmp_path / "data").iterdir()}
    assert left == {"lock"}


async def test_restore_under_a_running_node(start_node: StartNode, tmp_path: Path) -> None:
    await start_node(open_account=StandInAccount)
    assert run("restore", tmp_path / "b.tar", "--data", tmp_path / "data") == Exit.LOCAL
