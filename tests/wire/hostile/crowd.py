"""Honest devices in a process of their own: `python -m tests.wire.hostile.crowd`.

They chat in their groups at a steady rate, each message due at a fixed time (open loop), and check
every delivery: ids dense, nothing lost, nothing twice. The first line on stdin is the spec; then
each line "mark" is answered with what was since the last one, after all that was sent has come to
everybody, and an empty line ends it.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
import uuid
from typing import Any

from chinwag.chat.v1 import channel_pb2, connect_pb2, message_pb2
from tests.wire.hostile import peer as h2
from tests.wire.hostile.peer import Peer

CONNECT = "/chinwag.chat.v1.ChatService/Connect"
CONNECTIONS = 4
OPEN_TIMEOUT_S = 20.0
DRAIN_TIMEOUT_S = 20.0
SENDERS = 10
TEXT_BYTES = 100
# Hostile members say something too.
OURS = "honest "


def new_id() -> str:
    """A client_message_id: a UUID of version 7, of now."""
    raw = bytearray(uuid.uuid4().bytes)
    raw[:6] = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    raw[6] = 0x70 | raw[6] & 0x0F
    return str(uuid.UUID(bytes=bytes(raw)))


class Device:
    """One stream, and what came on it."""

    def __init__(self, name: str, group: dict[str, Any]) -> None:
        self.name = name
        self.channel_id: str = group["id"]
        self.last: int = group["cursor"]
        self.got = 0
        self.caught_up = False
        self.problems: list[str] = []
        self._buffer = bytearray()

    def take(self, data: bytes, latencies: list[int]) -> None:
        """Bytes of the stream."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 5:
            size = struct.unpack_from(">I", buffer, 1)[0]
            if len(buffer) < 5 + size:
                break
            self._response(
                connect_pb2.ConnectResponse.FromString(bytes(buffer[5 : 5 + size])), latencies
            )
            del buffer[: 5 + size]

    def _response(self, response: connect_pb2.ConnectResponse, latencies: list[int]) -> None:
        now = time.monotonic_ns()
        for event in response.events:
            entry = event.entry
            if entry.channel_id != self.channel_id:
                continue
            if entry.id != self.last + 1:
                self.problems.append(f"{self.name}: entry {entry.id} came after {self.last}")
            self.last = entry.id
            text = entry.message_sent.content.text
            if text.startswith(OURS):
                self.got += 1
                latencies.append(now - int(text.split()[1]))
        for result in response.results:
            if result.HasField("error"):
                self.problems.append(f"{self.name}: a send was refused: {result.error.message}")
        if response.HasField("caught_up"):
            self.caught_up = True
        if response.HasField("close"):
            self.problems.append(f"{self.name}: closed: {response.close}")


class Crowd:
    """All devices, on a few connections."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._peers: list[Peer] = []
        self._devices: list[Device] = []
        self._streams: list[dict[int, Device]] = []
        self._senders: list[tuple[Peer, int, Device]] = []
        self._sent: dict[str, int] = {group["id"]: 0 for group in spec["groups"]}
        self._latencies: list[int] = []
        self._behind_ms = 0.0
        self._sending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connects everybody."""
        for _ in range(CONNECTIONS):
            streams: dict[int, Device] = {}

            def on_data(stream_id: int, data: bytes, streams: dict[int, Device] = streams) -> None:
                streams[stream_id].take(data, self._latencies)

            large = h2.settings((h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW))
            update = h2.window_update(0, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW)
            peer = await Peer.open(
                self._spec["port"], first=h2.PREFACE + large + update, on_data=on_data
            )
            self._peers.append(peer)
            self._streams.append(streams)
        for group in self._spec["groups"]:
            for index, token in enumerate(group["tokens"]):
                self._device(group, index, token)
        for _ in range(int(OPEN_TIMEOUT_S / 0.02)):
            if all(device.caught_up for device in self._devices):
                break
            await asyncio.sleep(0.02)
        else:
            raise SystemExit(f"not everybody was caught up: {self.problems()}")
        self._sending = asyncio.create_task(self._send())

    def _device(self, group: dict[str, Any], index: int, token: str) -> None:
        number = len(self._devices)
        peer, streams = self._peers[number % CONNECTIONS], self._streams[number % CONNECTIONS]
        stream_id = 2 * len(streams) + 1
        device = streams[stream_id] = Device(f"{group['id']}/{index}", group)
        self._devices.append(device)
        cursor = channel_pb2.Cursor(
            channel_id=group["id"], generation=group["generation"], id=group["cursor"]
        )
        hello = connect_pb2.Hello(protocol_version=1, client="honest", cursors=[cursor])
        first = connect_pb2.ConnectRequest(hello=hello).SerializeToString()
        peer.write(h2.call_head(stream_id, CONNECT, token) + h2.message(stream_id, first))
        if index < SENDERS:
            self._senders.append((peer, stream_id, device))

    async def _send(self) -> None:
        interval_ns = int(1e9 / self._spec["rate"])
        due = time.monotonic_ns()
        number = 0
        # In turn from all groups, so that the load is even.
        senders = [sender for index in range(SENDERS) for sender in self._senders[index::SENDERS]]
        while True:
            due += interval_ns
            wait = due - time.monotonic_ns()
            if wait > 0:
                await asyncio.sleep(wait / 1e9)
            else:
                self._behind_ms = max(self._behind_ms, -wait / 1e6)
                await asyncio.sleep(0)
            peer, stream_id, device = senders[number % len(senders)]
            number += 1
            content = message_pb2.MessageContent(text=f"{OURS}{due} ".ljust(TEXT_BYTES, "."))
            send = connect_pb2.SendMessageRequest(
                channel_id=device.channel_id,
                client_message_id=new_id(),
                content=content,
            )
            self._sent[device.channel_id] += 1
            request = connect_pb2.ConnectRequest(sends=[send]).SerializeToString()
            peer.write(h2.message(stream_id, request))

    def problems(self) -> list[str]:
        """What went wrong so far."""
        found = [problem for device in self._devices for problem in device.problems]
        found += [f"a connection ended: {peer.ending}" for peer in self._peers if peer.done]
        for peer, streams in zip(self._peers, self._streams, strict=True):
            for stream_id in peer.ended | set(peer.resets):
                end = peer.resets.get(stream_id) or peer.trailers.get(stream_id)
                found.append(f"{streams[stream_id].name}: its stream ended: {end}")
        return found[:20]

    async def mark(self) -> dict[str, Any]:
        """What was since the last mark."""
        sent = dict(self._sent)
        until = time.monotonic() + DRAIN_TIMEOUT_S
        missing = True
        while missing and time.monotonic() < until:
            missing = any(device.got < sent[device.channel_id] for device in self._devices)
            await asyncio.sleep(0.01)
        problems = self.problems()
        if missing:
            late = [d.name for d in self._devices if d.got < sent[d.channel_id]]
            problems.append(f"{len(late)} devices lack messages: {late[:5]}")
        latencies, self._latencies[:] = sorted(self._latencies), []
        behind_ms, self._behind_ms = self._behind_ms, 0.0
        count = len(latencies)
        return {
            "count": count,
            "p50_ms": latencies[count // 2] / 1e6 if count else 0.0,
            "p99_ms": latencies[count * 99 // 100] / 1e6 if count else 0.0,
            "max_ms": latencies[-1] / 1e6 if count else 0.0,
            "behind_ms": behind_ms,
            "problems": problems,
        }

    async def close(self) -> None:
        """Ends all streams."""
        if self._sending is not None:
            self._sending.cancel()
        for peer in self._peers:
            peer.close()


async def main() -> None:
    """Runs until stdin ends."""
    loop = asyncio.get_running_loop()
    crowd = Crowd(json.loads(sys.stdin.readline()))
    await crowd.open()
    print("ready", flush=True)
    while (await loop.run_in_executor(None, sys.stdin.readline)).strip() == "mark":
        print(json.dumps(await crowd.mark()), flush=True)
    await crowd.close()


if __name__ == "__main__":
    asyncio.run(main())
