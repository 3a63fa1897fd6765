"""`chinwag migrate`, and the first API key, against a real Cassandra and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.account.postgres import PostgresAccountStore
from chinwag_server.account.postgres import schema as accounts
from chinwag_server.chat.cassandra import schema as chat
from chinwag_server.chat.cassandra.tables import CassandraTables
from chinwag_server.chat.sequenced.schema import ALL
from chinwag_server.cli import main
from chinwag_server.cli.exits import Exit
from tests.server.account.postgres_server import empty_url, shared_server, sql
from tests.server.chat.cassandra_fixtures import cassandra, quiet
from tools.engines import cassandra as engine
from tools.engines.cassandra import Cassandra
from tools.engines.postgres import Postgres
from tools.engines.process import free_port

__all__ = ["cassandra", "empty_url", "quiet", "shared_server"]

REPOSITORY = Path(__file__).parents[3]
RUN_S = 100.0


class Mesh:
    """The settings of a mesh whose databases are empty."""

    def __init__(self, cassandra: Cassandra, accounts_url: str) -> None:
        self.keyspace = f"k{secrets.token_hex(6)}"
        self.accounts_url = accounts_url
        self.chat_url = cassandra.url(self.keyspace)
        self.flags = {
            "--mesh-coordination-url": "etcd://127.0.0.1:1",
            "--mesh-redis-url": "redis://127.0.0.1:1",
            "--stores-chat-url": self.chat_url,
            "--stores-accounts-url": accounts_url,
            "--stores-cluster-id": "blue",
        }

    def command(self, *more: str, **changes: str) -> list[str]:
        """Arguments of `chinwag`; `stores_cluster_id="red"` changes a flag."""
        flags = self.flags | {f"--{key.replace('_', '-')}": text for key, text in changes.items()}
        return ["migrate", *(part for flag in flags.items() for part in flag), *more]


# The mesh, and what each of two programs told.
Migrated = tuple[Mesh, list[dict[str, Any]]]


@pytest.fixture
def mesh(cassandra: Cassandra, empty_url: str) -> Mesh:
    return Mesh(cassandra, empty_url)


@pytest.fixture(scope="module")
def migrated(cassandra: Cassandra, shared_server: Postgres) -> Migrated:
    """A mesh that two programs migrated at once; whoever changes it changes it back."""
    name = f"m{secrets.token_hex(6)}"
    shared_server.create_database(name)
    mesh = Mesh(cassandra, shared_server.url(name))
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "chinwag_server.cli", *mesh.command("--json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for _ in range(2)
    ]
    told = []
    for one in both:
        out, err = one.communicate(timeout=RUN_S)
        assert (one.returncode, err) == (Exit.OK, "")
        told.append(json.loads(out))
    return mesh, told


async def opens(mesh: Mesh) -> None:
    """Nodes can use what was made."""
    tables = CassandraTables(mesh.chat_url, ALL, cluster_id="blue")
    await tables.open()
    await tables.close()
    store = PostgresAccountStore(mesh.accounts_url, cluster_id="blue")
    await store.open()
    await store.close()


def cql(cassandra: Cassandra, statement: str, *values: str) -> Any:
    """Runs a statement; its row."""
    driver = cassandra.connect(cassandra.nodes[0])
    try:
        return driver.connect().execute(statement, values or None).one()
    finally:
        driver.shutdown()


def refused(
    mesh: Mesh, capsys: pytest.CaptureFixture[str], *more: str, code: Exit, **changes: str
) -> str:
    assert main(mesh.command(*more, **changes)) == code
    text = capsys.readouterr().err
    assert "chinwag migrate: " in text
    assert engine.PASSWORD + "@" not in text
    assert "pass%2Fword" not in text
    return text


def test_two_at_once_and_again(migrated: Migrated, capsys: pytest.CaptureFixture[str]) -> None:
    mesh, told = migrated
    # Each thing was done by one of them.
    made = [text for one in told for text in one["chat"]["statements"] if "entries" in text]
    assert len(made) == 1
    # The second comes in after the first's last step or between two of them.
    first, second = sorted(one["accounts"]["from"] for one in told)
    assert first == 0 < second <= accounts.SCHEMA_VERSION
    assert {one["accounts"]["to"] for one in told} == {accounts.SCHEMA_VERSION}
    asyncio.run(opens(mesh))

    assert main(mesh.command()) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(": up to date") for line in lines)
    assert "@" not in "".join(lines)


def test_a_new_keyspace_as_it_is_told(
    mesh: Mesh, cassandra: Cassandra, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(mesh, capsys, "--datacenter", "moon", code=Exit.UNREACHABLE)
    assert f"no node is in data centre moon, there is {engine.DATACENTER}" in text
    # One node cannot hold a second copy, so it goes no further than that.
    text = refused(mesh, capsys, "--replication", "2", code=Exit.UNREACHABLE)
    assert "cannot be migrated" in text
    asked = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"
    assert cql(cassandra, asked, mesh.keyspace).replication[engine.DATACENTER] == "2"


def test_what_is_not_ours_is_refused(
    migrated: Migrated, empty_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh, _ = migrated
    text = refused(mesh, capsys, stores_cluster_id="red", code=Exit.REFUSED)
    assert "belongs to cluster 'blue', this node to 'red'" in text
    # Another mesh with people of its own, and by mistake our keyspace.
    text = refused(
        mesh, capsys, stores_cluster_id="red", stores_accounts_url=empty_url, code=Exit.REFUSED
    )
    assert "the keyspace belongs to cluster blue, this is cluster red" in text


def test_newer_ones_are_refused(
    migrated: Migrated,
    cassandra: Cassandra,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh, _ = migrated
    newer = chat.VERSION + 1
    monkeypatch.setattr(chat, "VERSION", newer)
    assert main(mesh.command()) == Exit.OK
    monkeypatch.undo()
    capsys.readouterr()
    text = refused(mesh, capsys, code=Exit.REFUSED)
    assert f"of version {newer}, this program knows {chat.VERSION}: upgrade" in text
    row = f"store = '{chat.STORE}' AND version = {newer}"
    cql(cassandra, f"DELETE FROM {mesh.keyspace}.{chat.MIGRATIONS} WHERE {row}")

    asyncio.run(sql(mesh.accounts_url, "UPDATE chinwag SET schema_version = 1000"))
    text = refused(mesh, capsys, code=Exit.REFUSED)
    assert "has schema 1000, this program knows up to" in text
    assert "written by a newer chinwag" in text
    version = accounts.SCHEMA_VERSION
    asyncio.run(sql(mesh.accounts_url, f"UPDATE chinwag SET schema_version = {version}"))


def test_who_is_not_let_in(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = mesh.chat_url.replace(f":{engine.PASSWORD}@", ":wrong@")
    text = refused(mesh, capsys, stores_chat_url=wrong, code=Exit.REFUSED)
    assert "correct user and password in the URL" in text
    assert "wrong@" not in text
    scheme, _, rest = mesh.accounts_url.partition("://")
    wrong = f"{scheme}://postgres:wrong@{rest.rpartition('@')[2]}"
    text = refused(mesh, capsys, stores_accounts_url=wrong, code=Exit.REFUSED)
    assert "check the user and the password" in text
    assert "wrong@" not in text


def test_what_is_not_there(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    url = f"cassandra://{nobody}/{mesh.keyspace}"
    text = refused(mesh, capsys, stores_chat_url=url, code=Exit.UNREACHABLE)
    assert "no node can be reached" in text
    url = f"postgresql://ann@{nobody}/x"
    text = refused(mesh, capsys, stores_accounts_url=url, code=Exit.UNREACHABLE)
    assert "check that the server runs" in text


def test_wrong_settings(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(mesh, capsys, stores_chat_url="cassandra://one", code=Exit.USAGE)
    assert "stores.chat_url: cassandra://one:9042/: a keyspace is of" in text
    text = refused(mesh, capsys, "--replication", "0", code=Exit.USAGE)
    assert "--replication is from 1 to 9" in text
    assert main(["migrate"]) == Exit.USAGE
    assert "there is nothing to migrate" in capsys.readouterr().err


def test_accounts_alone(empty_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--stores-accounts-url", empty_url]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("accounts  postgresql://127.0.0.1:")
    assert out.endswith(f": from schema 0 to {accounts.SCHEMA_VERSION}\n")


def test_the_first_api_key(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHINWAG_STORES_ACCOUNTS_URL", empty_url)
    assert main(["apikey", "create", "--scopes", "users:read", "--json"]) == Exit.OK
    made = json.loads(capsys.readouterr().out)
    rows = asyncio.run(sql(empty_url, "SELECT key_id, scopes FROM api_keys"))
    assert [row[0] for row in rows] == [made["id"]]
    monkeypatch.setenv("CHINWAG_STORES_ACCOUNTS_URL", f"postgresql://127.0.0.1:{free_port()}/x")
    assert main(["apikey", "create", "--scopes", "users:read"]) == Exit.UNREACHABLE
    assert "check that the server runs" in capsys.readouterr().err
