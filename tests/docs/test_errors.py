"""The contract, the server and docs/errors.md agree on every reason and its status code."""

from __future__ import annotations

import re
from pathlib import Path

from chinwag.common.v1 import errors_pb2
from chinwag_server.rpc.errors import CODES

ROOT = Path(__file__).parents[2]
REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in errors_pb2.ErrorReason.keys()  # noqa: SIM118
    if name != "ERROR_REASON_UNSPECIFIED"
]


def test_every_reason_has_the_code_that_its_comment_says() -> None:
    text = (ROOT / "proto/chinwag/common/v1/errors.proto").read_text()
    said = {}
    for block, name in re.findall(r"((?:  //[^\n]*\n)+)  ERROR_REASON_([A-Z_]+) = \d+;", text):
        if name != "UNSPECIFIED":
            said[name] = block.strip().removeprefix("// ").split(":")[0]
    assert sorted(said) == sorted(REASONS)
    assert {name: code.name for name, code in CODES.items()} == said


def test_the_page_lists_every_reason_once() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| .+ \|$", text, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(REASONS)
    assert dict(rows) == {name: code.name for name, code in CODES.items()}
