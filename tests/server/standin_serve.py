"""`chinwag` with the stand-in for accounts, for tests of processes (`python -m`)."""

import sys
from types import ModuleType

from chinwag_server.cli import main


def open_room(settings: object, data_dir: object, clock: object, bus: object) -> object:
    # Imported late: it imports grpc, which `chinwag serve` prepares first.
    from tests.server.standin import StandInAccount

    return StandInAccount(settings, data_dir, clock, bus)  # type: ignore[arg-type]


if __name__ == "__main__":
    room = ModuleType("chinwag_server.account.room")
    room.open_room = open_room  # type: ignore[attr-defined]
    sys.modules[room.__name__] = room
    sys.exit(main())
