"""The built web page as files that Envoy answers with by itself."""

from __future__ import annotations

from pathlib import Path

from chinwag_server.envoy.front import File

# Where the build puts it; in no commit, and in the wheel.
FOLDER = Path(__file__).parent / "page"
MODULES = Path(__file__).parent / "lib"
LIBRARY = MODULES / "libchinwag_bridge.so"
MAX_BYTES = 4 << 20

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


class PageError(Exception):
    """The folder holds no page that can be served: the text says why."""


def load(folder: Path = FOLDER) -> dict[str, File]:
    """The files of a page, by path; "/" is index.html. None if there is no page.

    What lies in `assets` has its content's hash in its name, and may be kept for ever.

    Raises:
        PageError: A file is of no known type, or they are too large.
    """
    if not (folder / "index.html").is_file():
        return {}
    found: dict[str, File] = {}
    size = 0
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        path = "/" + file.relative_to(folder).as_posix()
        kind = _TYPES.get(file.suffix)
        if kind is None:
            raise PageError(f"{file}: expected one of {', '.join(_TYPES)}, got {file.suffix!r}")
        body = file.read_bytes()
        size += len(body)
        if size > MAX_BYTES:
            raise PageError(f"{folder} is larger than {MAX_BYTES} bytes")
        found[path] = File(kind, body, cacheable=path.startswith("/assets/"))
    found["/"] = found["/index.html"]
    return found
