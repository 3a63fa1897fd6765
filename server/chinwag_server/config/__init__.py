"""Every setting of a node: what it is called, its type, default, bounds and meaning, once.

`settings` declares them, `sources` reads them (flags, then CHINWAG_... variables, then a TOML file,
then defaults), `together` says what they need of each other, `reference` writes
docs/configuration.md from them. No other module reads the environment or a file of settings.
"""

from chinwag_server.config.settings import (
    AccountSettings,
    DeadlineSettings,
    EnvoySettings,
    HttpSettings,
    LimitSettings,
    ListenSettings,
    LogSettings,
    MeshSettings,
    Settings,
    XdsSettings,
)
from chinwag_server.config.sources import ConfigError, Loaded, load

__all__ = [
    "AccountSettings",
    "ConfigError",
    "DeadlineSettings",
    "EnvoySettings",
    "HttpSettings",
    "LimitSettings",
    "ListenSettings",
    "Loaded",
    "LogSettings",
    "MeshSettings",
    "Settings",
    "XdsSettings",
    "load",
]
