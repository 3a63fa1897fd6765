"""`chinwag backup FILE`: a tar archive of the stores, each as it was at one moment."""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import tempfile
import time
from pathlib import Path

from chinwag_server import __version__
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import add_data, data_dir
from chinwag_server.cli.stores import STORES, bars, local_errors
from chinwag_server.datadir import fsync_dir

MANIFEST = "chinwag-backup.json"
FORMAT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the archive to write, such as chinwag.tar")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    parser.add_argument("--json", action="store_true", help="for a script; no progress bar")
    add_data(parser)


def run(args: argparse.Namespace) -> int:
    directory: Path = data_dir(args)
    file: Path = args.file
    if file.exists() and not args.overwrite:
        raise CommandError(f"{file} is there already: name another file, or say --overwrite")
    with local_errors():
        sizes = _write(directory, file, quiet=args.json)
    if args.json:
        print(json.dumps({"file": str(file), "bytes": file.stat().st_size, "stores": sizes}))
    else:
        print(f"{file}: {file.stat().st_size:,} bytes")
    return Exit.OK


def _write(directory: Path, file: Path, *, quiet: bool) -> dict[str, int]:
    """Writes beside the file, then renames: a backup that broke off is never taken for one."""
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=file.absolute().parent, prefix=".chinwag-backup-") as work:
        archive = Path(work) / "archive"
        with archive.open("wb") as raw, bars(quiet=quiet) as bar:
            with tarfile.open(fileobj=raw, mode="w") as tar:
                _add_manifest(tar)
                for store in STORES:
                    copy = Path(work) / store.file
                    store.backup(directory, copy, bar(store.name))
                    sizes[store.name] = copy.stat().st_size
                    tar.add(copy, store.file)
                    copy.unlink()
            raw.flush()
            os.fsync(raw.fileno())
        archive.chmod(0o600)
        archive.rename(file)
        fsync_dir(file.absolute().parent)
    return sizes


def _add_manifest(tar: tarfile.TarFile) -> None:
    content = {
        "format": FORMAT,
        "version": __version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "stores": [store.file for store in STORES],
    }
    data = json.dumps(content).encode()
    entry = tarfile.TarInfo(MANIFEST)
    entry.size = len(data)
    entry.mtime = int(time.time())
    tar.addfile(entry, io.BytesIO(data))
