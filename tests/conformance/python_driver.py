"""The driver of the Python SDK: README.md has the protocol."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import chinwag
from chinwag import events as ev
from chinwag.client import Client
from chinwag.errors import ChinwagError
from chinwag.session import Session
from chinwag.store import MemoryStore


def say(said: dict[str, Any]) -> None:
    """Writes a line."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def cursor(at: ev.Cursor | None) -> dict[str, str] | None:
    return None if at is None else {"generation": str(at.generation), "id": str(at.id)}


def facts(event: ev.Event) -> dict[str, Any]:
    """What is said of an event beside its type."""
    if isinstance(event, ev.ConnectionChanged):
        said = {"connection": event.connection.value, "reason": "", "text": ""}
        if event.error is not None:
            said |= {"reason": event.error.reason, "text": str(event.error)}
        return said
    assert isinstance(event, ev.ChannelEvent), event
    about: dict[str, Any] = {"channel": event.channel_id}
    if isinstance(event, ev.EntryEvent):
        about["id"] = str(event.cursor.id)
    if isinstance(event, ev.MessageReceived):
        about |= {"sender": event.sender_id, "text": event.text, "redacted": event.entry.redacted}
    elif isinstance(event, ev.MessageEdited):
        about |= {"message_id": str(event.message_id), "text": event.text}
    elif isinstance(event, ev.MessageDeleted):
        about |= {"message_id": str(event.message_id)}
    elif isinstance(event, ev.ReactionChanged):
        about |= {"message_id": str(event.message_id), "emoji": event.emoji, "added": event.added}
    elif isinstance(event, ev.ChannelOpened):
        about["cursor"] = cursor(event.cursor)
    elif isinstance(event, ev.ChannelReset):
        about |= {"reason": event.reason, "cursor": cursor(event.cursor)}
    elif isinstance(event, ev.GapSeen):
        about |= {"from_id": str(event.from_id), "to_id": str(event.to_id)}
    elif isinstance(event, ev.StateChanged):
        about["read_id"] = str(event.state.read_id)
    elif isinstance(event, ev.ReceiptChanged):
        marks = {"delivered_id": str(event.delivered_id), "read_id": str(event.read_id)}
        about |= {"user": event.user_id, **marks}
    elif isinstance(event, ev.TypingChanged):
        about |= {"user": event.user_id, "active": event.active}
    elif isinstance(event, ev.SendResolved):
        reason = event.error.reason if event.error is not None else ""
        about |= {"message_id": str(event.message_id), "reason": reason}
    return about


class Driver:
    """One application."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._client: Client | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None, "connect comes first"
        return self._client

    async def connect(self, addresses: list[str], session: dict[str, str], **more: Any) -> None:
        self._client = chinwag.connect(
            addresses,
            Session(
                session["user_id"],
                session["device_id"],
                session["access_token"],
                refresh_token=session["refresh_token"],
            ),
            store=self._store,
            wait_s=None,
            catch_up_limit=more.get("catch_up_limit", 0),
            delivered_marks=more.get("delivered_marks", False),
        )
        await self._client.start()
        self._reader = asyncio.ensure_future(self._read(self._client))

    async def _read(self, client: Client) -> None:
        try:
            async for event in client.events():
                say({"type": type(event).__name__, **facts(event)})
        except ChinwagError:
            pass  # a ConnectionChanged has said so

    async def send(self, channel: str, text: str) -> dict[str, Any]:
        sent = await self.client.channel(channel).send(text)
        return {"message_id": str(sent.message_id), "client_message_id": sent.client_message_id}

    async def post(self, channel: str, text: str) -> None:
        self.client.channel(channel).post(text)

    async def mark_read(self, channel: str, ids: list[str]) -> None:
        for entry_id in ids:
            self.client.channel(channel).mark_read(int(entry_id))

    async def typing(self, channel: str) -> None:
        self.client.channel(channel).typing()

    async def edit(self, channel: str, id: str, text: str) -> dict[str, Any]:  # noqa: A002
        message = await self.client.channel(channel).edit(int(id), text)
        return {"text": message.content.text}

    async def view(self, channel: str) -> dict[str, Any]:
        view = await self.client.channel(channel).view()
        return {"name": view.channel.name}

    async def history(self, channel: str) -> dict[str, Any]:
        texts = [message.content.text async for message in self.client.channel(channel).history()]
        return {"texts": texts}

    async def kept(self, channel: str) -> dict[str, Any]:
        messages = self.client.channel(channel).kept()
        return {"channel": channel, "texts": [message.content.text for message in messages]}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def run(self, number: int, do: str, arguments: dict[str, Any]) -> None:
        """One command and its reply."""
        try:
            gives = await getattr(self, do)(**arguments)
        except ChinwagError as error:
            say({"reply": number, "error": {"kind": type(error).__name__, "reason": error.reason}})
        else:
            say({"reply": number, **(gives or {})})


async def main() -> None:
    """Carries out commands until there are no more."""
    driver = Driver()
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    running: set[asyncio.Task[None]] = set()
    async for line in lines:
        command = json.loads(line)
        work = driver.run(command.pop("number"), command.pop("do"), command)
        task = asyncio.ensure_future(work)
        running.add(task)
        task.add_done_callback(running.discard)
    await driver.close()


if __name__ == "__main__":
    asyncio.run(main())
