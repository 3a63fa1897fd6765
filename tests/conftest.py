"""What holds for every test: with CI set, nothing may be skipped."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.server.fixtures import adapter, bare_server, server, server_process, start_node

__all__ = ["adapter", "bare_server", "server", "server_process", "start_node"]

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")


# Folders of tests that need the machine to themselves.
ALONE = ("wire/hostile", "wire/differential", "simulation", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of `ALONE`."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.parent.relative_to(here).as_posix()
        if folder.startswith(ALONE):
            item.add_marker(pytest.mark.alone)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may be skipped in CI, this was: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report
