"""Writes the code generated from proto/ and its kin, or checks that it is up to date.

Everything is generated into a temporary folder first: a failing plugin leaves the tree as it was,
and the check never touches it.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path("sdk/python")
ETCD = Path("server/chinwag_server/mesh/etcd/pb")
XDS = Path("server/chinwag_server/xds/pb")
# Folders in which every file is generated. A hand-written file in one of them is deleted.
GENERATED = (
    "sdk/python/chinwag/*/v[0-9]*",
    "sdk/python/buf",
    "sdk/typescript/src/gen",
    str(ETCD),
    str(XDS),
)
DOCSTRING = '"""Generated from {}/ by `make generate`: do not edit."""\n'


def generate(into: Path) -> None:
    """Runs buf into an empty folder and adds and removes what its plugins do not.

    Args:
        into: the folder that stands for the top of the repository.

    Raises:
        subprocess.CalledProcessError: buf or a plugin failed; its message is on stderr.
    """
    buf: list[str | Path] = [ROOT / ".venv/bin/buf", "generate", "-o", into]
    subprocess.run(buf, cwd=ROOT, check=True)
    subprocess.run([*buf, "--template", "buf.gen.server.yaml"], cwd=ROOT, check=True)
    python, etcd, xds = into / PYTHON, into / ETCD, into / XDS

    # TypeScript needs google.rpc from us; Python has it from googleapis-common-protos.
    shutil.rmtree(python / "google", ignore_errors=True)

    # What nodes say to each other is nothing for a browser.
    shutil.rmtree(into / "sdk/typescript/src/gen/chinwag/mesh", ignore_errors=True)

    # These two plugins write a hollow file for each .proto that declares no service.
    hollow = [*python.rglob("*_grpc.py"), *python.rglob("*_pb2_grpc.pyi")]
    for path in [*hollow, *etcd.rglob("*_pb2_grpc.pyi"), *xds.rglob("*_grpc.py*")]:
        stem = path.stem.removesuffix("_grpc").removesuffix("_pb2")
        if not path.with_name(f"{stem}_pb2_grpc.py").exists():
            path.unlink()

    # buf/ itself stays a namespace package, open to other distributions; chinwag/ is hand-written.
    for folder in python.glob("*/**/"):
        if folder.parent != python:
            (folder / "__init__.py").write_text(DOCSTRING.format("proto"))
    (etcd / "__init__.py").write_text(DOCSTRING.format("proto_etcd"))
    (xds / "__init__.py").write_text(DOCSTRING.format("proto_xds"))


def files(top: Path) -> set[Path]:
    """Returns the generated files under `top`, relative to it, whether current or stale."""
    folders = [folder for pattern in GENERATED for folder in top.glob(pattern)]
    found = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    for folder in top.glob(GENERATED[0]):
        found.add(folder.parent / "__init__.py")
    return {p.relative_to(top) for p in found if p.exists() and "__pycache__" not in p.parts}


def differences(fresh: Path, tree: Path) -> list[str]:
    """Returns one line for each file that is missing, stale or different in `tree`."""
    wanted, present = files(fresh), files(tree)
    lines = [f"missing: {path}" for path in wanted - present]
    lines += [f"stale: {path}" for path in present - wanted]
    for path in wanted & present:
        if not filecmp.cmp(fresh / path, tree / path, shallow=False):
            lines.append(f"differs: {path}")
    return sorted(lines)


def install(fresh: Path, tree: Path) -> None:
    """Makes the generated files of `tree` equal to those of `fresh`, leaving equal ones alone."""
    wanted, present = files(fresh), files(tree)
    for path in present - wanted:
        (tree / path).unlink()
        for folder in list((tree / path).parents)[:2]:
            if not [child for child in folder.iterdir() if child.name != "__pycache__"]:
                shutil.rmtree(folder)
    for path in sorted(wanted):
        target = tree / path
        if target.exists() and filecmp.cmp(fresh / path, target, shallow=False):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fresh / path, target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; fail on a difference")
    check = parser.parse_args().check

    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        changes = differences(fresh, ROOT)
        if not check:
            install(fresh, ROOT)
    print("\n".join(changes) or "generated code: up to date")
    if check and changes:
        print("generated code does not match the .proto files: `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
