"""Thousands of devices: made once, used by several measures."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from bench.backend import backend, make_key
from bench.drive import Place, Spec
from bench.measures.common import Bench, user_ids

GROUP = 100
_made: dict[tuple[Path, int], Crowd] = {}


@dataclass(frozen=True, slots=True)
class Crowd:
    """A data directory with people, each with a device, in groups of 100."""

    data: Path
    spec: Spec

    def copy(self, bench: Bench) -> Path:
        """The data of a run of its own; tokens are good there too."""
        data = bench.new_data()
        shutil.copytree(self.data, data)
        return data

    def at(self, address: str) -> Spec:
        """The devices, on a server."""
        return replace(self.spec, address=address)


def crowd(bench: Bench) -> Crowd:
    """As many devices as the run of the harness is told."""
    key = (bench.folder, bench.devices)
    if key not in _made:
        _made[key] = _make(bench)
    return _made[key]


def _make(bench: Bench) -> Crowd:
    data = bench.new_data()
    secret = make_key(data)
    people = user_ids(bench.devices)
    with bench.serve(data) as server, backend(server, secret) as caller:
        devices = caller.users(people)
        places: list[Place] = [
            caller.group(people, range(first, min(first + GROUP, bench.devices)), "bench")
            for first in range(0, bench.devices, GROUP)
        ]
    return Crowd(data, Spec("", devices, places))
