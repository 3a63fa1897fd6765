"""The dev overlay's certificates: made once, over Kubernetes' API, and good for mutual TLS."""

from __future__ import annotations

import base64
import datetime
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k8s.overlays.dev import certificates
from tests.mesh.certificates import make

NOW = datetime.datetime.now(datetime.UTC)
SECRETS = "/api/v1/namespaces/dev/secrets"


class Api(http.server.ThreadingHTTPServer):
    """As much of Kubernetes as is needed: Secrets of one namespace, for one token."""

    def __init__(self, folder: Path) -> None:
        self.secrets: dict[str, Any] = {}
        self.token = "token-of-the-account"
        self.writes = 0
        super().__init__(("127.0.0.1", 0), Handler)
        files = make(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        (folder / "ca.crt").write_bytes(files.ca.read_bytes())
        (folder / "token").write_text(f"{self.token}\n")
        (folder / "namespace").write_text("dev")


class Handler(http.server.BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        secret = self.server.secrets.get(self.path.removeprefix(f"{SECRETS}/"))
        self._answer(200 if secret else 404, secret or {"kind": "Status"})

    def do_POST(self) -> None:
        self._put(exists=False)

    def do_PUT(self) -> None:
        self._put(exists=True)

    def _put(self, *, exists: bool) -> None:
        secret = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = secret["metadata"]["name"]
        assert self.path == (f"{SECRETS}/{name}" if exists else SECRETS)
        if (name in self.server.secrets) != exists:
            self._answer(404 if exists else 409, {"kind": "Status"})
            return
        self.server.writes += 1
        self.server.secrets[name] = secret
        self._answer(200, secret)

    def _answer(self, status: int, body: Any) -> None:
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            status, body = 403, {"kind": "Status"}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    server = Api(tmp_path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def secrets(api: Api, tmp_path: Path) -> certificates.Secrets:
    return certificates.Secrets(f"127.0.0.1:{api.server_port}", tmp_path)


def test_they_are_made_once(api: Api, secrets: certificates.Secrets) -> None:
    assert certificates.ensure(secrets, NOW)
    first = api.secrets["chinwag-mesh-tls"]
    assert sorted(first["data"]) == ["ca.crt", "tls.crt", "tls.key"]
    assert not certificates.ensure(secrets, NOW)
    assert api.secrets["chinwag-mesh-tls"] == first
    assert api.writes == 1


def test_they_are_made_again_before_they_end(api: Api, secrets: certificates.Secrets) -> None:
    certificates.ensure(secrets, NOW)
    first = api.secrets["chinwag-mesh-tls"]
    later = NOW + certificates.LIFE - certificates.LEFT
    assert not certificates.ensure(secrets, later - datetime.timedelta(hours=1))
    assert certificates.ensure(secrets, later + datetime.timedelta(hours=1))
    assert api.secrets["chinwag-mesh-tls"] != first


@pytest.mark.parametrize("data", [{}, {"tls.crt": base64.b64encode(b"nonsense").decode()}])
def test_a_secret_without_a_certificate_is_replaced(
    api: Api, secrets: certificates.Secrets, data: dict[str, str]
) -> None:
    api.secrets["chinwag-mesh-tls"] = {"metadata": {"name": "chinwag-mesh-tls"}, "data": data}
    assert certificates.ensure(secrets, NOW)


def test_a_refusal_is_an_error(api: Api, secrets: certificates.Secrets) -> None:
    api.token = "another"
    with pytest.raises(OSError, match=r"refuses GET .*/secrets/chinwag-mesh-tls: 403"):
        certificates.ensure(secrets, NOW)


def test_nodes_speak_mutual_tls_by_them(tmp_path: Path) -> None:
    for name, pem in certificates.make(NOW).items():
        (tmp_path / name).write_bytes(pem)
    server, client = (
        ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    for context in (server, client):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tmp_path / "ca.crt")
        context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=certificates.NAME),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done: set[int] = set()
    for _ in range(10):
        for number, end in enumerate(ends):
            try:
                end.do_handshake()
                done.add(number)
            except ssl.SSLWantReadError:
                pass
    assert done == {0, 1}
    assert ends[1].getpeercert()
