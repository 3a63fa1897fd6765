"""Fixtures of the wire's tests: the judges, built once, and a certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.rpc import certificates
from tests.wire.interop import judges


@pytest.fixture(scope="session")
def wire_tools() -> Path:
    """The folder with `h2spec` and `interop_client`."""
    return judges.build()


@pytest.fixture(scope="session")
def wire_certificate(tmp_path_factory: pytest.TempPathFactory) -> certificates.Files:
    """For 127.0.0.1; it is its own authority."""
    return certificates.make(tmp_path_factory.mktemp("wire"), "wire")
