"""Every scenario with every SDK. README.md says how a scenario is written."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.conformance.driver import SDKS, Driver, build
from tests.conformance.runner import Run
from tests.conformance.script import Scenario, load

# Some of them alone: CHINWAG_SDKS=python,typescript.
CHOSEN = tuple(filter(None, os.environ.get("CHINWAG_SDKS", "").split(","))) or SDKS

Commands = dict[str, list[str] | None]


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return {sdk: build(sdk, tmp_path_factory.mktemp(sdk)) for sdk in CHOSEN}


@pytest.mark.parametrize("scenario", load(), ids=lambda scenario: scenario.name)
async def test_scenario(scenario: Scenario, commands: Commands) -> None:
    # All SDKs at the same time, each with a server of its own: most of a scenario is waiting.
    runs = [
        Run(scenario, Driver(sdk, command))
        for sdk, command in commands.items()
        if command is not None
    ]
    outcomes = await asyncio.gather(*(run.run() for run in runs), return_exceptions=True)
    failures = [outcome for outcome in outcomes if outcome is not None]
    if failures:
        raise BaseExceptionGroup(scenario.title, failures)
    missing = [sdk for sdk, command in commands.items() if command is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)} (`npm ci` in sdk/typescript)")
