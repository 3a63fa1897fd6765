"""One mesh for all faults of a module; what each did to sends and deliveries is told at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.faults.stage import Stage, set_stage

LINES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Tells a line now, if output is shown, and all of them at the end in any case."""
    lines = pytestconfig.stash.setdefault(LINES, [])

    def tell(line: str) -> None:
        lines.append(line)
        print(f"\n{line}", flush=True)

    return tell


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash.get(LINES, []):
        terminalreporter.section("faults: how long sends and deliveries stood still")
        for line in lines:
            terminalreporter.line(line)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(report: Callable[[str], None]) -> AsyncIterator[Stage]:
    async with set_stage(report, people=16, rate=2.0) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wide_stage(report: Callable[[str], None]) -> AsyncIterator[Stage]:
    """On three Cassandra nodes."""
    async with set_stage(report, people=20, rate=3.0, cassandra_nodes=3) as made:
        yield made
