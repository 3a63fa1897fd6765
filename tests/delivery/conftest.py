"""A real server of the tests' own, and people on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from chinwag_server.cli.replay.admin import Admin
from chinwag_server.cli.replay.devices import Device
from chinwag_server.cli.replay.server import OwnServer


def _nothing(_sender: str, _key: str, _when: float) -> None:
    """A message was seen: the tests look at the devices' records instead."""


@dataclass
class Stage:
    """A server that can be killed, and devices on it."""

    server: OwnServer
    admin: Admin
    devices: list[Device] = field(default_factory=list)

    async def people(self, *names: str) -> None:
        """Makes accounts whose ids are the names."""
        await self.admin.make_users([(name, name) for name in names])

    async def device(self, user_id: str, name: str) -> Device:
        """A device that is caught up."""
        device = Device(user_id, name, _nothing)
        self.devices.append(device)
        await device.open(self.server.target, await self.admin.issue_token(user_id, name))
        return device

    async def kill(self) -> None:
        """kill -9, and the server again."""
        await self.server.kill()
        await self.server.start()


@pytest.fixture
async def stage(adapter: str) -> AsyncIterator[Stage]:
    async with staged(OwnServer()) as made:
        yield made


@asynccontextmanager
async def staged(server: OwnServer) -> AsyncIterator[Stage]:
    """A running server, and its end."""
    key = server.make_key()
    await server.start()
    admin = Admin(server.target, key)
    stage = Stage(server, admin)
    try:
        yield stage
    finally:
        await asyncio.gather(*(device.close() for device in stage.devices))
        await admin.close()
        await server.stop()
        server.remove()
