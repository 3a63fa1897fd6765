"""Envoy itself is the judge of the configuration."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chinwag_server.cli import main
from chinwag_server.envoy import methods
from chinwag_server.envoy.certificates import for_development
from chinwag_server.envoy.front import Address
from chinwag_server.envoy.page import LIBRARY, MODULES, PageError, load
from chinwag_server.envoy.process import find_envoy

VALIDATE_S = 60


def validate(file: Path) -> str:
    """What Envoy says of a configuration; "": it is good."""
    binary = find_envoy()
    assert binary is not None
    done = subprocess.run(
        [binary, "--mode", "validate", "-c", file, "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=VALIDATE_S,
        env={**os.environ, "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(MODULES)},
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def rendered(folder: Path, *flags: str) -> dict[str, Any]:
    """`chinwag envoy config`, validated."""
    tls = for_development(folder / "tls")
    file = folder / "envoy.json"
    command = ["envoy", "config", "--out", str(file), "--data", str(folder)]
    command += ["--envoy-tls-cert-file", str(tls.cert_file)]
    command += ["--envoy-tls-key-file", str(tls.key_file), *flags]
    assert main(command) == 0
    said = validate(file)
    assert not said, said
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config


@pytest.mark.parametrize(
    "flags",
    [
        ("--envoy-nodes", "10.0.0.1:7400,10.0.0.2:7400"),
        ("--envoy-xds-address", "chinwag-xds:7410", "--envoy-jwks-address", "chinwag-nodes:7401"),
        ("--envoy-nodes", "[::1]:7400", "--envoy-stats-address", "127.0.0.1:9901"),
        ("--envoy-nodes", "127.0.0.1:7400", "--envoy-bridge", "false"),
        ("--envoy-nodes", "127.0.0.1:7400", "--envoy-requests-per-second", "0"),
        ("--envoy-nodes", "127.0.0.1:7400", "--envoy-origins", "https://a.example,http://b:81"),
    ],
    ids=["nodes", "xds", "stats", "no bridge", "no limit", "origins"],
)
def test_what_is_rendered_is_valid(tmp_path: Path, flags: tuple[str, ...]) -> None:
    rendered(tmp_path, *flags)


def test_nodes_with_certificates(tmp_path: Path) -> None:
    ca = for_development(tmp_path / "nodes").ca_file
    config = rendered(
        tmp_path,
        *("--envoy-nodes", "127.0.0.1:7400", "--envoy-node-ca-file", str(ca)),
        *("--envoy-node-name", "chinwag-nodes"),
    )
    (nodes, *_) = config["static_resources"]["clusters"]
    assert nodes["transport_socket"]["typed_config"]["sni"] == "chinwag-nodes"


def test_the_bridge_is_in_front_of_http(tmp_path: Path) -> None:
    assert LIBRARY.exists(), "run: make bridge"
    config = rendered(tmp_path, "--envoy-nodes", "127.0.0.1:7400", "--envoy-origins", "https://a.b")
    (listener,) = config["static_resources"]["listeners"]
    bridge, manager = listener["filter_chains"][0]["filters"]
    assert "allowed_origins = https://a.b\n" in bridge["typed_config"]["filter_config"]["value"]
    assert manager["name"] == "envoy.filters.network.http_connection_manager"


def test_who_needs_no_token_comes_from_the_contract(tmp_path: Path) -> None:
    config = rendered(tmp_path, "--envoy-nodes", "127.0.0.1:7400")
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    jwt = next(
        one["typed_config"]
        for one in manager["http_filters"]
        if one["name"] == "envoy.filters.http.jwt_authn"
    )
    free = {rule["match"]["path"] for rule in jwt["rules"] if "path" in rule["match"]}
    assert free == {method.path for method in methods.methods() if method.anonymous}
    assert "/chinwag.account.v1.AccountService/SignUp" in free
    assert "/chinwag.chat.v1.ChatService/SendMessage" not in free
    (provider,) = jwt["providers"].values()
    assert {header["name"] for header in provider["from_headers"]} == {"authorization"}


def test_only_what_may_be_done_twice_is_tried_again(tmp_path: Path) -> None:
    config = rendered(tmp_path, "--envoy-nodes", "127.0.0.1:7400")
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    by_path = {
        route["match"].get("path"): route["route"] for route in host["routes"] if "route" in route
    }
    for method in methods.methods():
        route = by_path.get(method.path)
        if route is None:
            continue
        retried = route["retry_policy"]["retry_on"]
        assert ("unavailable" in retried) == (method.retriable and not method.streams)
        assert (route["timeout"] == "0s") == method.streams
    assert "/chinwag.chat.v1.ChatService/SendMessage" not in by_path
    assert by_path["/chinwag.chat.v1.ChatService/Connect"]["idle_timeout"] == "0s"


def test_it_holds_no_secret_and_its_admin_no_port(tmp_path: Path) -> None:
    config = rendered(tmp_path, "--envoy-nodes", "127.0.0.1:7400")
    assert "pipe" in config["admin"]["address"]
    assert "PRIVATE KEY" not in json.dumps(config)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "say where the nodes are"),
        (("--envoy-nodes", "somewhere"), "expected HOST:PORT, got 'somewhere'"),
        (("--envoy-nodes", "1.2.3.4:7400"), "name a certificate and its key"),
    ],
)
def test_what_is_missing_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    files = for_development(tmp_path)
    more = ["--envoy-tls-cert-file", str(files.cert_file)]
    more += ["--envoy-tls-key-file", str(files.key_file)]
    if "certificate" in said:
        more = []
    assert main(["envoy", "config", *flags, *more]) == 2
    assert said in capsys.readouterr().err


def test_addresses() -> None:
    assert Address.parse("a.b:80") == Address("a.b", 80)
    assert Address.parse("[::1]:80") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"
    for bad in ("", "a", ":80", "a:", "a:x", "a:70000"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            Address.parse(bad)


def test_a_page_of_unknown_files_is_refused(tmp_path: Path) -> None:
    assert load(tmp_path) == {}
    (tmp_path / "index.html").write_text("<p>", encoding="utf-8")
    assert set(load(tmp_path)) == {"/", "/index.html"}
    (tmp_path / "a.exe").write_bytes(b"")
    with pytest.raises(PageError, match=r"\.exe"):
        load(tmp_path)


def test_a_certificate_for_development_is_kept(tmp_path: Path) -> None:
    first = for_development(tmp_path)
    before = first.cert_file.read_bytes()
    assert for_development(tmp_path) == first
    assert first.cert_file.read_bytes() == before
    assert first.key_file.stat().st_mode & 0o077 == 0
    first.cert_file.unlink()
    ca = first.ca_file.read_bytes()
    for_development(tmp_path)
    assert first.ca_file.read_bytes() == ca
