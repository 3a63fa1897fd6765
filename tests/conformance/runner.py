"""Runs a scenario: a scripted server on one side, an SDK's driver on the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from chinwag.chat.v1 import connect_pb2
from tests.conformance.driver import Driver
from tests.conformance.script import Bindings, Mismatch, Scenario, Step
from tests.conformance.scripted_server import Call, Node, Stream

T = TypeVar("T")

# How long anything may take; a step may name another time ("within_s").
WAIT_S = 10.0
# A client's clock and the runner's are read at different moments.
SLACK_S = 0.02
SESSION = {
    "user_id": "ada",
    "device_id": "d",
    "access_token": "t1",
    "refresh_token": "r1",
}
WELCOME = {
    "user_id": "ada",
    "device_id": "d",
    "limits": {"max_frame_bytes": 4194304, "max_sends_per_frame": 100, "ping_interval": "30s"},
}


def status_of(said: dict[str, Any]) -> status_pb2.Status:
    """A status: {code, message, reason, retry_s, metadata}."""
    status = status_pb2.Status(code=said["code"], message=said.get("message", "scripted"))
    if "reason" in said:
        info = error_details_pb2.ErrorInfo(
            reason=said["reason"], domain="chinwag", metadata=said.get("metadata", {})
        )
        status.details.add().Pack(info)
    if "retry_s" in said:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(said["retry_s"] * 1e9))
        status.details.add().Pack(retry)
    return status


def frame_of(said: dict[str, Any]) -> bytes:
    """A frame of the server.

    Args:
        said: As JSON; statuses in it as `status_of` takes them, `raw_hex` is added to the bytes.
    """
    said = dict(said)
    raw = bytes.fromhex(said.pop("raw_hex", ""))
    frame = connect_pb2.ConnectResponse()
    results = [dict(result) for result in said.pop("results", [])]
    for result in results:
        error = result.pop("error", None)
        made = json_format.ParseDict(result, frame.results.add())
        if error is not None:
            made.error.CopyFrom(status_of(error))
    close = dict(said.pop("close", {}))
    if close:
        status = close.pop("status", None)
        json_format.ParseDict(close, frame.close)
        if status is not None:
            frame.close.status.CopyFrom(status_of(status))
    json_format.ParseDict(said, frame)
    return frame.SerializeToString() + raw


class Run:
    """One scenario with one SDK."""

    def __init__(self, scenario: Scenario, driver: Driver) -> None:
        self._scenario = scenario
        self._changed = asyncio.Event()
        self._nodes = [Node(self._changed, pongs=scenario.pongs) for _ in range(scenario.nodes)]
        self._driver = driver
        driver.changed = self._changed.set
        self._bindings = Bindings()
        self._stream: Stream | None = None
        self._numbers: dict[str, int] = {}
        self._ended_at = 0.0
        self._within_s = WAIT_S

    async def run(self) -> None:
        """Runs it.

        Raises:
            AssertionError: A step did not come true; the text says which.
        """
        await self._driver.start()
        try:
            for node in self._nodes:
                await node.start()
            addresses = {f"node{index}": node.address for index, node in enumerate(self._nodes)}
            self._bindings = Bindings(**addresses)
            for number, step in enumerate(self._scenario.steps, 1):
                try:
                    await self._step(step)
                except (AssertionError, KeyError, json_format.ParseError) as error:
                    where = f"{self._scenario.name}, step {number} of the {self._driver.sdk} SDK"
                    raise AssertionError(
                        f"{where}, {step}: {error}\n{self._situation()}"
                    ) from error
            await self._finish()
        finally:
            for node in self._nodes:
                await node.stop()
            await self._driver.stop()

    def _situation(self) -> str:
        items = self._stream.items if self._stream is not None else None
        calls = [call.method.name for node in self._nodes for call in node.calls]
        return (
            f"the application saw {self._driver.events}, {self._driver.connections}; "
            f"the server has {items} and the calls {calls}"
        )

    async def _until(self, find: Callable[[], T | None], what: str) -> T:
        """Waits for something to come."""
        try:
            async with asyncio.timeout(self._within_s):
                while True:
                    self._changed.clear()
                    found = find()
                    if found is not None:
                        return found
                    if self._driver.has_ended:
                        raise Mismatch(f"the driver has ended, waiting for {what}")
                    await self._changed.wait()
        except TimeoutError:
            raise Mismatch(f"within {self._within_s:g} s: no {what}") from None

    async def _step(self, step: Step) -> None:
        self._within_s = step.get("within_s", WAIT_S)
        name = next(iter(step))
        await getattr(self, f"_{name}")(step[name], step)

    # --- the application ---

    async def _app(self, command: dict[str, Any], step: Step) -> None:
        """Gives the driver a command, and waits for the reply unless it has a name ("as")."""
        filled = self._bindings.fill(command)
        if command["do"] == "connect":
            addresses = [node.address for node in self._nodes]
            filled = {"addresses": addresses, "session": SESSION, **filled}
        number = self._driver.do(filled)
        if "as" in step:
            self._numbers[step["as"]] = number
        else:
            await self._reply(number, step)

    async def _app_done(self, name: str, step: Step) -> None:
        await self._reply(self._numbers[name], step)

    async def _reply(self, number: int, step: Step) -> None:
        replies = self._driver.replies
        reply = await self._until(lambda: replies.pop(number, None), "reply")
        expected = {"error": step["error"]} if "error" in step else {"error": None}
        self._bindings.match({**expected, **step.get("gives", {})}, reply, "the reply")

    async def _app_sees(self, expected: dict[str, Any], _step: Step) -> None:
        """The next event of the application."""
        events = self._driver.events
        event = await self._until(lambda: events.pop(0) if events else None, f"event {expected}")
        self._bindings.match(expected, event, "the event")

    async def _app_is(self, expected: dict[str, Any], _step: Step) -> None:
        """The connection comes into a state."""
        states = self._driver.connections

        def find() -> bool | None:
            while states:
                try:
                    self._bindings.match(expected, states.pop(0), "the connection")
                except Mismatch:
                    continue
                return True
            return None

        await self._until(find, f"connection {expected}")

    async def _app_keeps(self, expected: dict[str, Any], step: Step) -> None:
        """The device's store comes to hold these messages: a commit may follow its event."""
        end = time.monotonic() + WAIT_S
        while True:
            number = self._driver.do({"do": "kept", "channel": expected["channel"]})
            try:
                await self._reply(number, {**step, "gives": expected})
            except Mismatch:
                if time.monotonic() > end:
                    raise
            else:
                return

    # --- the server ---

    async def _stream_opens(self, expected: dict[str, Any], _step: Step) -> None:
        """The device opens a stream: {node, token, after_s, hello}."""
        await self._take_stream(self._nodes[expected.get("node", 0)], expected)

    async def _stream_opens_anywhere(self, expected: dict[str, Any], _step: Step) -> None:
        """The same at any node: `$here` is its address from now on, `$other` another one's."""
        here = await self._until(
            lambda: next((node for node in self._nodes if node.streams), None), "stream"
        )
        self._bindings.set("here", here.address)
        for other in self._nodes:
            if other is not here:
                self._bindings.set("other", other.address)
        await self._take_stream(here, expected)

    async def _stream_opens_at(self, address: str, step: Step) -> None:
        """The same at the node of an address."""
        await self._take_stream(self._at(address), step)

    def _at(self, address: str) -> Node:
        wanted = self._bindings.fill(address)
        return next(node for node in self._nodes if node.address == wanted)

    async def _take_stream(self, node: Node, expected: dict[str, Any]) -> None:
        stream = await self._until(lambda: node.streams.pop(0) if node.streams else None, "stream")
        waited_s = time.monotonic() - self._ended_at
        if waited_s < expected.get("after_s", 0.0) - SLACK_S:
            raise Mismatch(f"it came back after {waited_s:.3f} s")
        self._stream = stream
        self._bindings.match(expected.get("token", "t1"), stream.token, "the token")
        await self._server_gets({"hello": expected.get("hello", {})}, {})

    async def _server_gets(self, expected: dict[str, Any], _step: Step) -> None:
        """The next thing of a kind that the client says, in whatever frame."""
        ((name, value),) = expected.items()
        stream = self._open()

        def find() -> Any:
            for index, (kind, _) in enumerate(stream.items):
                if kind == name:
                    return stream.items.pop(index)
            return None

        _, said = await self._until(find, name)
        self._bindings.match(value, said, name)

    async def _server_sends(self, said: dict[str, Any], _step: Step) -> None:
        self._open().out.put_nowait(frame_of(self._bindings.fill(said)))
        if "close" in said:
            self._ended_at = time.monotonic()

    async def _server_welcomes(self, more: dict[str, Any], _step: Step) -> None:
        """A usual welcome, with other fields in it."""
        self._open().out.put_nowait(frame_of({"welcome": {**WELCOME, **self._bindings.fill(more)}}))

    async def _server_ends(self, status: dict[str, Any], _step: Step) -> None:
        """The stream ends with a status; without a reason, as if the connection had broken."""
        self._ended_at = time.monotonic()
        self._open().out.put_nowait(status_of(status))

    async def _server_stops(self, address: str, _step: Step) -> None:
        """A node is gone."""
        self._ended_at = time.monotonic()
        await self._at(address).stop()

    async def _client_ends(self, _: Any, _step: Step) -> None:
        """The stream is ended, by the client if the server did not."""
        stream = self._open()
        await self._until(lambda: stream.ended or None, "end of the stream")
        self._stream = None

    async def _server_is_asked(self, expected: dict[str, Any], step: Step) -> None:
        """A unary call: {method, request, token}; `answers`, or `refuses` with a status."""

        def find() -> Call | None:
            for node in self._nodes:
                for index, call in enumerate(node.calls):
                    if call.method.name == expected["method"]:
                        return node.calls.pop(index)
            return None

        call = await self._until(find, f"call of {expected['method']}")
        self._bindings.match(expected.get("request", {}), call.request, "the request")
        if "token" in expected:
            self._bindings.match(expected["token"], call.token, "the token")
        if "refuses" in step:
            call.answer.set_result(status_of(step["refuses"]))
            return
        answer = GetMessageClass(call.method.output_type)()
        filled = self._bindings.fill(step.get("answers", {}))
        call.answer.set_result(json_format.ParseDict(filled, answer))

    def _open(self) -> Stream:
        if self._stream is None:
            raise Mismatch("no stream is open: the scenario lacks a stream_opens")
        return self._stream

    # --- the end ---

    async def _finish(self) -> None:
        """Nothing is left that no step has taken."""
        number = self._driver.do({"do": "close"})
        await self._reply(number, {})
        left = [
            *self._driver.events,
            *(item for item in (self._stream.items if self._stream else ())),
            *(call.method.name for node in self._nodes for call in node.calls),
        ]
        if left:
            raise AssertionError(
                f"{self._scenario.name} with the {self._driver.sdk} SDK: no step expects {left}"
            )
