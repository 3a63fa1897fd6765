"""Fixtures: one server and one crowd for all attacks of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.hostile.stage import Stage, more_descriptors, start_server


@pytest.fixture(scope="module")
def descriptors() -> Iterator[None]:
    """Thousands of connections, on both ends."""
    with more_descriptors():
        yield


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, descriptors: None) -> Iterator[Stage]:
    """For peers that nobody vouches for."""
    server, people = start_server(tmp_path_factory.mktemp("hostile"))
    try:
        made = Stage(server, people)
        try:
            yield made
        finally:
            made.close()
    finally:
        server.kill()


@pytest.fixture(scope="module")
def trusting_stage(tmp_path_factory: pytest.TempPathFactory, descriptors: None) -> Iterator[Stage]:
    """For connections that are a proxy's."""
    server, people = start_server(
        tmp_path_factory.mktemp("trusting"), "--listen-trusted-proxies", "127.0.0.1"
    )
    try:
        made = Stage(server, people)
        try:
            yield made
        finally:
            made.close()
    finally:
        server.kill()
