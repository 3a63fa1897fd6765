"""h2spec, which judges HTTP/2 itself: every case must pass, none may be skipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.server.rpc.certificates import Files
from tests.wire.interop import judges
from tests.wire.interop.serving import HOST, on_wire

# h2spec waits up to `-o` seconds for each answer; a case may wait several times.
ANSWER_TIMEOUT_S = 2
RUN_TIMEOUT_S = 180.0

pytestmark = pytest.mark.timeout(judges.BUILDING_TEST_TIMEOUT_S + RUN_TIMEOUT_S)


def failures(output: str) -> str:
    """The cases that failed, as h2spec repeats them after its list."""
    return output.partition("Failures:")[2] or output


async def judge(h2spec: Path, port: int, expected: int, *flags: str) -> None:
    """Runs all the cases."""
    verdict = await judges.run(
        h2spec,
        *("-h", HOST),
        *("-p", str(port)),
        *("-o", str(ANSWER_TIMEOUT_S)),
        *flags,
        timeout_s=RUN_TIMEOUT_S,
    )
    counts = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", verdict.output)
    assert counts, verdict.output
    total, passed, skipped, failed = map(int, counts.groups())
    told = (total, passed, skipped, failed)
    assert told == (expected, expected, 0, 0), f"{counts.group()}\n{failures(verdict.output)}"
    assert verdict.code == 0, verdict.output


@pytest.mark.parametrize(("flags", "expected"), [((), 145), (("-S",), 146)], ids=["", "strict"])
async def test_http2(wire_tools: Path, flags: tuple[str, ...], expected: int) -> None:
    async with on_wire() as port:
        await judge(wire_tools / "h2spec", port, expected, *flags)


async def test_http2_over_tls(wire_tools: Path, wire_certificate: Files) -> None:
    async with on_wire(wire_certificate) as port:
        await judge(wire_tools / "h2spec", port, 146, "-S", "-t", "-k")
