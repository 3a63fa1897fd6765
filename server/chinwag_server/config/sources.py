"""Where settings come from: flags, then CHINWAG_... variables, then a TOML file, then defaults."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chinwag_server.config.settings import Settings
from chinwag_server.config.together import problems

ENV_PREFIX = "CHINWAG_"
ENV_FILE = "CHINWAG_CONFIG"
_DEST = "setting:"
_PASSWORD = re.compile(r"(://[^:/?#@]*:)[^/?#]*@")
_BOOLS = {"true": True, "1": True, "yes": True, "on": True}
_BOOLS |= {"false": False, "0": False, "no": False, "off": False}


class ConfigError(Exception):
    """A setting is wrong: the text names it, where it came from and what was expected."""


@dataclass(slots=True, frozen=True)
class Declared:
    """A setting's declaration.

    Attributes:
        section: Name of the part of `Settings`; empty for a setting at the top.
        kind: str, int, float, bool, Path or tuple (of str).
        optional: Whether it may be empty (None).
    """

    section: str
    name: str
    kind: type
    optional: bool
    default: Any
    doc: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    flag: str
    networks: bool

    @property
    def key(self) -> str:
        """As people name it: "limits.text_length"."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def env(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.key.replace(".", "_").upper()

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags, a short one first."""
        full = "--" + self.key.replace(".", "-").replace("_", "-")
        return (f"--{self.flag}", full) if self.flag else (full,)


@dataclass(slots=True, frozen=True)
class Loaded:
    """Settings, and of each by its key where it came from."""

    settings: Settings
    origins: Mapping[str, str]


def declared() -> Iterator[Declared]:
    """All settings, in the order of their declaration."""
    yield from _declared(Settings, "")


def _declared(owner: type, section: str) -> Iterator[Declared]:
    hints = typing.get_type_hints(owner)
    for field in dataclasses.fields(owner):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _declared(typing.cast(type, hint), field.name)
            continue
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kind = parts[0]
        yield Declared(
            section=section,
            name=field.name,
            kind=typing.get_origin(kind) or kind,
            optional=type(None) in parts,
            default=field.default,
            **field.metadata,
        )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Gives a parser --config and a flag for each setting."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"TOML file of settings (also {ENV_FILE})"
    )
    groups: dict[str, Any] = {}
    for one in declared():
        group = groups.setdefault(one.section, parser.add_argument_group(one.section or "settings"))
        shown = show(one.default)
        options: dict[str, Any] = {
            "dest": _DEST + one.key,
            "default": None,
            "help": f"{one.doc} [{shown or 'none'}]".replace("%", "%%"),
        }
        if one.kind is bool:
            options |= {"nargs": "?", "const": "true", "metavar": "BOOL"}
        else:
            options["metavar"] = (
                "{" + ",".join(one.choices) + "}"
                if one.choices
                else {int: "N", float: "X", Path: "PATH", tuple: "A,B"}.get(one.kind, "TEXT")
            )
        group.add_argument(*one.flags, **options)


def load(flags: argparse.Namespace | None, environment: Mapping[str, str]) -> Loaded:
    """Reads all sources.

    Args:
        flags: Parsed by a parser that `add_flags` has seen; None: no flags.

    Raises:
        ConfigError: A setting is wrong, unknown, or the file cannot be read.
    """
    given = vars(flags) if flags is not None else {}
    file = given.get("config") or (
        Path(environment[ENV_FILE]) if environment.get(ENV_FILE) else None
    )
    table = _read_file(file) if file is not None else {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for one in declared():
        value, origin = one.default, "default"
        flag = given.get(_DEST + one.key)
        if flag is not None:
            value, origin = _parse(one, flag, f"flag {one.flags[0]}"), f"flag {one.flags[0]}"
        elif one.env in environment:
            value, origin = _parse(one, environment[one.env], one.env), one.env
        elif one.key in table:
            origin = f"{file}"
            value = _check(one, table[one.key], origin)
        values[one.key] = value
        origins[one.key] = origin
    _no_unknown(table, values, f"{file}")
    _no_unknown_variable(environment)
    settings = build(values)
    for key, text in problems(settings):
        raise ConfigError(f"{key} (from {origins[key]}): {text}")
    return Loaded(settings, origins)


def build(values: Mapping[str, Any]) -> Settings:
    """Settings from values by key; what is not given has its default."""
    sections: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (sections.setdefault(section, {}) if section else top)[name] = value
    hints = typing.get_type_hints(Settings)
    return Settings(**top, **{name: hints[name](**given) for name, given in sections.items()})


def show(value: Any) -> str:
    """A value as a flag or variable would give it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)


def hide(text: str) -> str:
    """A shown value without the passwords of its URLs."""
    return _PASSWORD.sub(r"\1***@", text)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is no TOML: {error}") from error
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            flat[name] = value
    return flat


def _no_unknown(table: Mapping[str, Any], known: Mapping[str, Any], origin: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{key} (from {origin}): there is no such setting")


def _no_unknown_variable(environment: Mapping[str, str]) -> None:
    # Only those that look like a section's: others may be a client's, in the same shell.
    known = {one.env for one in declared()}
    sections = tuple({f"{ENV_PREFIX}{one.section.upper()}_" for one in declared() if one.section})
    for name in environment:
        if name.startswith(sections) and name not in known:
            raise ConfigError(f"{name}: there is no such setting (see docs/configuration.md)")


def _parse(one: Declared, text: str, origin: str) -> Any:
    """A value from text."""
    if one.optional and not text:
        return None
    try:
        if one.kind is bool:
            return _BOOLS[text.strip().lower()]
        if one.kind is tuple:
            return _check(one, [part.strip() for part in text.split(",") if part.strip()], origin)
        return _check(one, one.kind(text), origin)
    except (ValueError, KeyError):
        raise ConfigError(f"{one.key} (from {origin}): {_expected(one)}, got {text!r}") from None


def _check(one: Declared, value: Any, origin: str) -> Any:
    """A value of a file, or one that was parsed: its type and bounds."""
    wrong = ConfigError(f"{one.key} (from {origin}): {_expected(one)}, got {show_any(value)}")
    if one.kind is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise wrong
        return _networks(one, tuple(value), origin) if one.networks else tuple(value)
    if one.kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if one.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not one.kind:
        raise wrong
    if isinstance(value, int | float) and not (
        math.isfinite(value)
        and (one.low is None or value >= one.low)
        and (one.high is None or value <= one.high)
    ):
        raise wrong
    if one.choices and value not in one.choices:
        raise wrong
    return value


def show_any(value: object) -> str:
    """A value as it was given, cut."""
    return repr(str(value) if isinstance(value, Path) else value)[:100]


def _networks(one: Declared, value: tuple[str, ...], origin: str) -> tuple[str, ...]:
    for text in value:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ConfigError(
                f"{one.key} (from {origin}): {text!r} is no address and no network"
            ) from None
    return value


def _expected(one: Declared) -> str:
    if one.choices:
        return f"expected one of {', '.join(one.choices)}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    names |= {Path: "a path", tuple: "a list of addresses"}
    text = f"expected {names[one.kind]}"
    if one.low is not None and one.high is not None:
        return f"{text} from {one.low:g} to {one.high:g}"
    if one.low is not None:
        return f"{text} of at least {one.low:g}"
    return text
