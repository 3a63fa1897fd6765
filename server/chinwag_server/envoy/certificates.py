"""A certificate for development: an authority of this data directory's own, and what it signs.

Whoever wants no warning makes their browser trust `ca.pem`. It is made once and lasts for two
years; the certificate for the server is made anew when it has less than a month left.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 730
# Browsers take none of a longer life.
SERVER_DAYS = 397
RENEW_DAYS = 30


@dataclass(slots=True, frozen=True)
class Development:
    """Files in PEM form."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def for_development(folder: Path, names: tuple[str, ...] = ("localhost",)) -> Development:
    """The certificate of a folder, made where it is missing or about to end.

    Args:
        names: Names and addresses of the server, besides those of loopback.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = Development(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority_key = folder / "ca.key"
    if _ends_soon(found.ca_file) or not authority_key.exists():
        _make_authority(found.ca_file, authority_key)
        found.cert_file.unlink(missing_ok=True)
    if _ends_soon(found.cert_file) or not found.key_file.exists():
        _make_server(found, authority_key, dict.fromkeys((*names, "localhost", "127.0.0.1", "::1")))
    return found


def _ends_soon(file: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return True
    return certificate.not_valid_after_utc < _now() + dt.timedelta(days=RENEW_DAYS)


def _make_authority(cert_file: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("chinwag development authority")
    builder = _builder(name, name, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    _write(key_file, _pem(key))
    _write(cert_file, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _make_server(found: Development, authority_key: Path, names: dict[str, None]) -> None:
    signer = serialization.load_pem_private_key(authority_key.read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(found.ca_file.read_bytes()).subject
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name("chinwag"), issuer, key.public_key(), SERVER_DAYS)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
    )
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    _write(found.key_file, _pem(key))
    certificate = builder.sign(signer, hashes.SHA256())
    _write(found.cert_file, certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Clocks differ.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(file: Path, content: bytes) -> None:
    part = file.with_suffix(".part")
    # Never for others to read, not even for a moment.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
    part.replace(file)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
