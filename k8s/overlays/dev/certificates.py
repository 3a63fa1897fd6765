"""Makes the certificate of the mesh's nodes and the authority that signs it, and keeps them in a
Secret of the namespace; leaves one alone that is good for a while. Runs in a pod of chinwag's
image.

The authority's key is thrown away: one certificate is shared by all nodes, and the next one has an
authority of its own. So nodes are restarted together after a renewal, which is enough for a try.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

API = "kubernetes.default.svc"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECRET = "chinwag-mesh-tls"  # noqa: S105 - its name
NAME = "chinwag-nodes"  # the Service: nodes have addresses that nobody knows beforehand
LIFE = datetime.timedelta(days=365)
LEFT = datetime.timedelta(days=60)
CALL_S = 10.0


class Secrets:
    """The namespace's Secrets, by Kubernetes' API.

    Args:
        api: Its HOST[:PORT].
        account: Folder of a service account: its token, namespace and the API's authority.
    """

    def __init__(self, api: str = API, account: Path = ACCOUNT) -> None:
        namespace = (account / "namespace").read_text().strip()
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._token = (account / "token").read_text().strip()
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def get(self, name: str) -> dict[str, Any] | None:
        """A Secret; None: there is none.

        Raises:
            OSError: The API refuses or does not answer.
        """
        return self._call("GET", f"/{name}", None)

    def put(self, secret: Mapping[str, Any], *, exists: bool) -> None:
        """Makes a Secret, or replaces it.

        Raises:
            OSError: The API refuses (409: another was first) or does not answer.
        """
        name = secret["metadata"]["name"]
        path = f"/{name}" if exists else ""
        if self._call("PUT" if exists else "POST", path, secret) is None:
            raise OSError(f"the Secret {name} or its namespace went away meanwhile")

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """The answer's object; None: 404."""
        link = http.client.HTTPSConnection(self._api, timeout=CALL_S, context=self._context)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            link.request(method, self._path + path, text, headers)
            answer = link.getresponse()
            found = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"the API does not answer: {error!r}") from error
        finally:
            link.close()
        if answer.status == 404:
            return None
        if answer.status >= 300:
            raise OSError(f"the API refuses {method} {self._path}{path}: {answer.status}")
        decoded: dict[str, Any] = json.loads(found)
        return decoded


def is_good(secret: Mapping[str, Any], now: datetime.datetime) -> bool:
    """Whether a Secret has a certificate that does not end soon."""
    try:
        pem = base64.b64decode(secret["data"]["tls.crt"])
        certificate = x509.load_pem_x509_certificate(pem)
    except (KeyError, ValueError):
        return False
    return certificate.not_valid_after_utc - now > LEFT


def make(now: datetime.datetime) -> dict[str, bytes]:
    """A certificate, its key and its authority, as PEM by the keys of a Secret of this kind."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = _name("chinwag mesh"), _name(NAME)
    ca = (
        _certificate(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        _certificate(name, ca_name, key.public_key(), now)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    return {
        "ca.crt": ca.public_bytes(serialization.Encoding.PEM),
        "tls.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "tls.key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }


def ensure(secrets: Secrets, now: datetime.datetime) -> bool:
    """Sees to it that there is a good certificate.

    Returns:
        Whether one was made.

    Raises:
        OSError: The API refuses or does not answer.
    """
    found = secrets.get(SECRET)
    if found is not None and is_good(found, now):
        return False
    data = {key: base64.b64encode(pem).decode() for key, pem in make(now).items()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET},
        "data": data,
    }
    secrets.put(secret, exists=found is not None)
    return True


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFE)
    )


if __name__ == "__main__":
    try:
        MADE = ensure(Secrets(), datetime.datetime.now(datetime.UTC))
    except OSError as error:
        sys.exit(f"the Secret {SECRET} cannot be made, the Job tries again: {error}")
    print(f"the Secret {SECRET} {'was made' if MADE else 'is good as it is'}")
