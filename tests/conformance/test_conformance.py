"""Every scenario with every SDK. README.md says how a scenario is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.conformance.driver import Driver, commands
from tests.conformance.runner import Run
from tests.conformance.script import Scenario, load

SCENARIOS = load()
ALL = tuple(commands())


def _cases() -> list[tuple[Scenario, tuple[str, ...]]]:
    cases: list[tuple[Scenario, tuple[str, ...]]] = []
    for scenario in SCENARIOS:
        # What takes seconds is done with all of them at the same time.
        together = [ALL] if scenario.slow else [(sdk,) for sdk in ALL]
        cases.extend((scenario, sdks) for sdks in together)
    return cases


def _driver_of(sdk: str) -> Callable[[Callable[[], None]], Driver]:
    command = commands()[sdk]
    if command is None:
        pytest.skip(f"the {sdk} SDK is not installed: run `npm ci` in sdk/{sdk}")
    return lambda changed: Driver(sdk, command, changed)


@pytest.mark.parametrize(
    ("scenario", "sdks"),
    [pytest.param(s, sdks, id=f"{s.name}-{'-'.join(sdks)}") for s, sdks in _cases()],
)
async def test_scenario(scenario: Scenario, sdks: tuple[str, ...]) -> None:
    runs = [Run(scenario, _driver_of(sdk)) for sdk in sdks]
    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(run.run())
