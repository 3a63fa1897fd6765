"""docs/configuration.md, written from the declarations.

Write it anew: `python -m chinwag_server.config.reference docs/configuration.md`.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from pathlib import Path

from chinwag_server.config.settings import Settings
from chinwag_server.config.sources import Declared, declared, show

_HEAD = """\
# Settings

<!-- Written by `python -m chinwag_server.config.reference docs/configuration.md` from
server/chinwag_server/config/settings.py; a test holds the two together. Do not edit. -->

Each setting can be given in three ways; the first that is given holds:

1. a flag of `chinwag serve`: `--limits-text-length 5000` (some have a short one: `--port 7400`);
2. an environment variable: `CHINWAG_LIMITS_TEXT_LENGTH=5000`;
3. a TOML file named by `--config FILE` or `CHINWAG_CONFIG`:
   ```toml
   data_dir = "/var/lib/chinwag"

   [limits]
   text_length = 5000
   ```

`chinwag config` prints what holds and where it came from, `chinwag config --json` for a script. A
value that is wrong or a name that does not exist stops the server with a text that names it. Lists
are written `a,b` in flags and variables. The ending of a name is its unit: `_ms` milliseconds, `_s`
seconds, `_bytes` bytes, `_kib` 1,024 bytes.

Settings hold from start to end of a process: change them and restart (a drain loses nothing).
"""


def render() -> str:
    """The page."""
    parts = [_HEAD]
    section = None
    hints = typing.get_type_hints(Settings)
    for one in declared():
        if one.section != section:
            section = one.section
            if section:
                parts.append(f"\n## {section}\n{_doc(hints[section])}\n")
            else:
                parts.append("\n## At the top\n")
            parts.append("\n| setting | default | what it is |\n|---|---|---|\n")
        parts.append(_row(one))
    return "".join(parts)


def _doc(owner: type) -> str:
    assert dataclasses.is_dataclass(owner)
    return " ".join((owner.__doc__ or "").split())


def _row(one: Declared) -> str:
    default = show(one.default)
    text = one.doc
    if one.choices:
        text += f" One of {', '.join(f'`{choice}`' for choice in one.choices)}."
    elif one.low is not None and one.high is not None:
        text += f" {_number(one.low)} to {_number(one.high)}."
    elif one.low:
        text += f" At least {_number(one.low)}."
    if one.flag:
        text += f" Short flag: `--{one.flag}`."
    return f"| `{one.name}` | {f'`{default}`' if default else ''} | {text} |\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def main() -> None:
    """Writes the page to the file that the one argument names."""
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
