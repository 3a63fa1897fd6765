"""`chinwag restore FILE`: the stores from an archive of `chinwag backup`, in a new generation."""

from __future__ import annotations

import argparse
import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from chinwag_server.cli.backup import FORMAT, MANIFEST
from chinwag_server.cli.exits import CommandError, Exit
from chinwag_server.cli.settings import add_data, data_dir
from chinwag_server.cli.stores import STORES, local_errors
from chinwag_server.datadir import DataDir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="an archive of `chinwag backup`")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the stores that are there"
    )
    parser.add_argument("--json", action="store_true", help="for a script")
    add_data(parser)


def run(args: argparse.Namespace) -> int:
    directory = DataDir(data_dir(args))
    with local_errors():
        directory.open()
        try:
            _restore(args.file, directory, overwrite=args.overwrite)
        finally:
            directory.close()
    if args.json:
        print(json.dumps({"data_dir": str(directory.path), "file": str(args.file)}))
    else:
        print(f"restored {args.file} into {directory.path}; devices fetch their channels anew")
    return Exit.OK


def _restore(file: Path, directory: DataDir, *, overwrite: bool) -> None:
    if not overwrite:
        there = [store.file for store in STORES if (directory.path / store.file).exists()]
        if there:
            raise CommandError(
                f"{directory.path} has {' and '.join(there)} already: name another directory, or "
                "say --overwrite"
            )
    with tempfile.TemporaryDirectory(dir=directory.path, prefix=".restore-") as work:
        unpacked = _unpack(file, Path(work))
        # A store verifies its file before it takes it; if the second one then refuses, the
        # first has been replaced: the same command with a good file makes both whole.
        for store in STORES:
            store.restore(unpacked[store.file], directory, overwrite=overwrite)


def _unpack(file: Path, work: Path) -> Mapping[str, Path]:
    """The archive's stores as files; nothing else of it is looked at."""
    unpacked: dict[str, Path] = {}
    try:
        with tarfile.open(file, mode="r:") as tar:
            manifest = tar.extractfile(MANIFEST)
            if manifest is None or json.load(manifest)["format"] != FORMAT:
                raise CommandError(f"{file} is a backup of another format than this program reads")
            for store in STORES:
                source = tar.extractfile(store.file)
                if source is None:
                    raise CommandError(f"{file} is no backup: {store.file} is no file in it")
                unpacked[store.file] = work / store.file
                with unpacked[store.file].open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{file} is no backup, or is damaged: {error}") from error
    return unpacked
