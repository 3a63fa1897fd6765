"""Certificates for a Cassandra that speaks TLS to its clients, made afresh for each cluster."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    pkcs12,
)
from cryptography.x509.oid import NameOID

LIFE = datetime.timedelta(days=2)


class Certificates:
    """One self-signed certificate for all nodes.

    Attributes:
        ca: What clients trust, PEM.
        keystore: What nodes hold, PKCS #12.
        password: Of the keystore.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.keystore = folder / "keystore.p12"
        self.password = "keystore"  # Java wants one; the file is as secret as the folder
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cassandra")])
        now = datetime.datetime.now(datetime.UTC)
        addresses = [
            x509.IPAddress(ipaddress.ip_address(f"127.0.0.{number}")) for number in (1, 2, 3)
        ]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFE)
            .not_valid_after(now + LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.keystore.write_bytes(
            pkcs12.serialize_key_and_certificates(
                b"cassandra",
                key,
                certificate,
                None,
                BestAvailableEncryption(self.password.encode()),
            )
        )
