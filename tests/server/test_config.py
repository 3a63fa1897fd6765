"""Settings: where they come from, what is wrong with them, and the page that says it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from chinwag_server.cli import main
from chinwag_server.config import ConfigError, Loaded, Settings, load
from chinwag_server.config.reference import render
from chinwag_server.config.sources import add_flags, build, declared, hide, show
from chinwag_server.rooms import chat_settings

REPOSITORY = Path(__file__).parents[2]


def loaded(*flags: str, env: dict[str, str] | None = None) -> Loaded:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return load(parser.parse_args(flags), env or {})


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "chinwag.toml"
    path.write_text(text)
    return str(path)


def test_the_page_of_settings_is_current() -> None:
    page = REPOSITORY / "docs" / "configuration.md"
    assert page.read_text(encoding="utf-8") == render(), (
        "run: .venv/bin/python -m chinwag_server.config.reference docs/configuration.md"
    )


def test_every_setting_has_a_line_of_documentation() -> None:
    for one in declared():
        assert one.doc.endswith("."), one.key
        assert "\n" not in one.doc, one.key


def test_every_default_keeps_its_own_bounds() -> None:
    # What `show` writes, a flag reads back.
    flags = [f"{one.flags[-1]}={show(one.default)}" for one in declared()]
    assert loaded(*flags).settings == Settings()


def test_flags_then_environment_then_file_then_defaults(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        """
        data_dir = "/srv/a"
        [limits]
        text_length = 10
        group_members = 11
        user_streams = 12
        user_sends_per_second = 3
        """,
    )
    env = {
        "CHINWAG_CONFIG": file,
        "CHINWAG_LIMITS_GROUP_MEMBERS": "21",
        "CHINWAG_LIMITS_USER_STREAMS": "22",
    }
    result = loaded("--limits-user-streams", "32", env=env)
    limits = result.settings.limits
    assert (limits.text_length, limits.group_members, limits.user_streams) == (10, 21, 32)
    assert limits.user_sends_per_second == 3.0
    assert result.settings.data_dir == Path("/srv/a")
    assert result.origins["limits.text_length"] == file
    assert result.origins["limits.group_members"] == "CHINWAG_LIMITS_GROUP_MEMBERS"
    assert result.origins["limits.user_streams"] == "flag --limits-user-streams"
    assert result.origins["limits.reactions"] == "default"


def test_short_flags() -> None:
    settings = loaded("--data", "/srv/b", "--port", "0", "--host", "::1", "--insecure").settings
    assert settings.data_dir == Path("/srv/b")
    assert (settings.listen.port, settings.listen.host) == (0, "::1")
    assert settings.listen.insecure


def test_lists_and_truths() -> None:
    env = {"CHINWAG_LISTEN_TRUSTED_PROXIES": "10.0.0.0/8, ::1", "CHINWAG_HTTP_ENABLED": "off"}
    settings = loaded(env=env).settings
    assert settings.listen.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.http.enabled is False
    assert loaded("--limits-exempt-addresses", "").settings.limits.exempt_addresses == ()


@pytest.mark.parametrize(
    ("flags", "env", "text"),
    [
        (["--port", "http"], {}, "listen.port (from flag --port): expected a whole number from 0"),
        (["--port", "65536"], {}, "got 65536"),
        ([], {"CHINWAG_LISTEN_PORT": ""}, "listen.port (from CHINWAG_LISTEN_PORT)"),
        ([], {"CHINWAG_LIMITS_REACTIONS": "1.5"}, "expected a whole number from 1 to 1000"),
        ([], {"CHINWAG_LIMITS_USER_CALLS_PER_SECOND": "nan"}, "expected a number of at least 0"),
        ([], {"CHINWAG_LIMITS_USER_CALLS_PER_SECOND": "inf"}, "expected a number of at least 0"),
        ([], {"CHINWAG_HTTP_ENABLED": "maybe"}, "expected true or false, got 'maybe'"),
        ([], {"CHINWAG_LOG_LEVEL": "loud"}, "expected one of debug, info, warning, error"),
        ([], {"CHINWAG_LISTEN_TRUSTED_PROXIES": "envoy"}, "'envoy' is no address and no network"),
        ([], {"CHINWAG_LIMITS_TEXT_LENGHT": "1"}, "CHINWAG_LIMITS_TEXT_LENGHT: there is no such"),
        (["--listen-tls-cert-file", "a.pem"], {}, "certificate and key need each other"),
        (["--listen-tls-client-ca-file", "a.pem"], {}, "needs a certificate"),
        (["--limits-frame-bytes", "5000000"], {}, "must not exceed limits.message_bytes"),
        (["--mesh-capacity", "0"], {}, "expected a number from 0.01 to 1000"),
        (["--mesh-lease-s", "1"], {}, "expected a whole number from 5 to 120"),
        (["--mesh-tls-ca-file", "a"], {}, "it needs mesh.tls_cert_file, mesh.tls_key_file too"),
        (["--mesh-advertise", "a:b"], {}, "expected HOST or HOST:PORT, got 'a:b'"),
        (["--mesh-advertise", "http://a:1"], {}, "expected HOST or HOST:PORT"),
        (["--mesh-advertise", "a:0"], {}, "expected HOST or HOST:PORT"),
    ],
)
def test_what_is_wrong_is_named(flags: list[str], env: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as info:
        loaded(*flags, env=env)
    assert text in str(info.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("limits = 1", "limits"),
        ("[limits]\nno_such = 1", "limits.no_such (from"),
        ("[limits]\ntext_length = '10'", "limits.text_length (from"),
        ("[limits]\ntext_length = true", "expected a whole number"),
        ("[listen]\ntrusted_proxies = '::1'", "expected a list of addresses"),
        ("[listen", "is no TOML"),
    ],
)
def test_a_wrong_file(tmp_path: Path, content: str, text: str) -> None:
    with pytest.raises(ConfigError) as info:
        loaded("--config", toml(tmp_path, content))
    assert text in str(info.value)
    assert "chinwag.toml" in str(info.value)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="No such file"):
        loaded(env={"CHINWAG_CONFIG": "/none/chinwag.toml"})


def test_other_variables_are_not_ours() -> None:
    loaded(env={"CHINWAG_SERVER": "localhost:1", "LIMITS_TEXT_LENGTH": "x", "HOME": "/"})


def test_the_chat_room_gets_its_part() -> None:
    settings = build(
        {"limits.text_length": 9, "limits.queue_bytes": 2 << 20, "deadlines.hello_ms": 1500}
    )
    chat = chat_settings(settings)
    assert chat.max_text_length == 9
    assert chat.stream.queue_bytes == 2 << 20
    assert chat.stream.hello_timeout_s == 1.5


def test_passwords_in_urls_are_not_shown() -> None:
    assert hide("postgresql://ann:pa:ss%40@db:5432/x?a=b") == "postgresql://ann:***@db:5432/x?a=b"
    assert hide("postgresql://db/x") == "postgresql://db/x"
    assert hide("nobody@home") == "nobody@home"


# --- a mesh ---

MESH = {
    "CHINWAG_MESH_COORDINATION_URL": "etcd://e1:2379,e2:2379",
    "CHINWAG_MESH_REDIS_URL": "redis://r1",
    "CHINWAG_STORES_CHAT_URL": "cassandra://c1/chinwag",
    "CHINWAG_STORES_ACCOUNTS_URL": "postgresql://p1/chinwag",
    "CHINWAG_STORES_CLUSTER_ID": "blue",
}
CERTIFICATES = ["--mesh-tls-cert-file=c", "--mesh-tls-key-file=k", "--mesh-tls-ca-file=a"]


@pytest.mark.parametrize("left_out", MESH)
def test_a_mesh_needs_all_its_parts(left_out: str) -> None:
    env = {name: value for name, value in MESH.items() if name != left_out}
    with pytest.raises(ConfigError) as info:
        loaded(env=env)
    key = left_out.removeprefix("CHINWAG_").replace("_", ".", 1).lower()
    assert f"a mesh also needs {key};" in str(info.value)


def test_a_whole_mesh_and_parts_that_are_none() -> None:
    settings = loaded(env=MESH).settings
    assert settings.mesh.coordination_url == "etcd://e1:2379,e2:2379"
    assert (settings.mesh.port, settings.mesh.lease_s) == (7480, 10)
    # A node that is alone may have its accounts in PostgreSQL.
    for name in ("CHINWAG_STORES_ACCOUNTS_URL", "CHINWAG_STORES_CLUSTER_ID"):
        loaded(env={name: MESH[name]})


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--mesh-host", "10.0.0.1"], "so nodes need TLS between them: give mesh.tls_cert_file"),
        (["--mesh-host", "node-1"], "so nodes need TLS"),
        (["--mesh-host", "::", *CERTIFICATES], "name one in mesh.advertise"),
        (["--mesh-host", "0.0.0.0", *CERTIFICATES], "name one in mesh.advertise"),
    ],
)
def test_where_other_nodes_reach_it(flags: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as info:
        loaded(*flags, env=MESH)
    assert text in str(info.value)
    assert str(info.value).startswith("mesh.host (from flag --mesh-host)")


def test_other_nodes_reach_it() -> None:
    loaded("--mesh-host", "::1", env=MESH)
    loaded("--mesh-host", "10.0.0.1", *CERTIFICATES, env=MESH)
    for advertise in ("node-1", "node-1:7480", "[fe80::1]:7480", "fe80::1", "[fe80::1]"):
        loaded("--mesh-host=::", f"--mesh-advertise={advertise}", *CERTIFICATES, env=MESH)


def test_config_hides_the_passwords_of_engines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in MESH.items():
        scheme, separator, rest = value.partition("://")
        shown = f"{scheme}://ann:secr%40t@{rest}" if separator else value
        monkeypatch.setenv(name, shown)
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    assert "secr" not in text
    assert "etcd://ann:***@e1:2379,e2:2379" in text
    assert main(["config", "--json"]) == 0
    text = capsys.readouterr().out
    assert "secr" not in text
    values = json.loads(text)
    assert values["mesh.redis_url"]["value"] == "redis://ann:***@r1"
    assert values["stores.chat_url"]["value"] == "cassandra://ann:***@c1/chinwag"
