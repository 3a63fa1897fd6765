"""Renders everything in k8s/ and checks each object against Kubernetes' own schemas.

usage: python -m tools.k8s
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

ROOT = Path(__file__).resolve().parents[1]
K8S = ROOT / "k8s"
MODULE = ROOT / "tools" / "kustomize"
CACHE = ROOT / ".engines"  # as of tools/engines: what was fetched or built once
PACKAGE = "sigs.k8s.io/kustomize/kustomize/v5"
# The oldest that has all that is used here, and the newest whose schemas are known.
VERSIONS = ("1.32", "1.37")
# Kinds that others define, with no schema in Kubernetes.
FOREIGN = {("cert-manager.io/v1", "Certificate"), ("cert-manager.io/v1", "Issuer")}
FOREIGN |= {("monitoring.coreos.com/v1", "ServiceMonitor")}
BUILD_S = 600.0
RENDER_S = 60.0

Object = dict[str, Any]


class ManifestError(Exception):
    """Something in k8s/ is wrong: the text says where and what."""


@dataclass(slots=True, frozen=True)
class Variant:
    """An overlay with optional components beside its own."""

    overlay: str
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " + ".join((self.overlay, *self.components))


def variants() -> Iterator[Variant]:
    """Each overlay as it is, with each component that it lacks, and with all of them."""
    every = sorted(folder.name for folder in (K8S / "components").iterdir())
    for folder in sorted((K8S / "overlays").iterdir()):
        own = yaml.safe_load((folder / "kustomization.yaml").read_text()).get("components", [])
        lacks = tuple(name for name in every if f"../../components/{name}" not in own)
        yield Variant(folder.name)
        yield from (Variant(folder.name, (name,)) for name in lacks)
        yield Variant(folder.name, lacks)


def render(variant: Variant) -> list[Object]:
    """The objects that `kubectl apply -k` would send.

    Raises:
        ManifestError: kustomize refuses.
        RuntimeError: There is no kustomize, and it cannot be built.
    """
    with tempfile.TemporaryDirectory() as made:
        # As somebody would who names the components in the overlay.
        copy = Path(made) / "k8s"
        shutil.copytree(K8S, copy)
        overlay = copy / "overlays" / variant.overlay
        file = overlay / "kustomization.yaml"
        lines = yaml.safe_load(file.read_text())
        lines.setdefault("components", [])
        lines["components"] += [f"../../components/{name}" for name in variant.components]
        file.write_text(yaml.safe_dump(lines))
        return parse(_run([str(kustomize()), "build", str(overlay)], str(variant)))


def parse(text: str) -> list[Object]:
    """Objects from YAML documents."""
    return [found for found in yaml.safe_load_all(text) if found]


def check(objects: Sequence[Object]) -> list[str]:
    """What Kubernetes would not take, one line each."""
    return [
        f"{one['kind']} {one['metadata']['name']}, Kubernetes {version}: {problem}"
        for version in VERSIONS
        for one in objects
        if (problem := _problem(one, version)) is not None
    ]


def kustomize() -> Path:
    """The program, built by Go from the pinned module, once.

    Raises:
        RuntimeError: Go is not there or cannot build it.
    """
    pinned = (MODULE / "go.mod").read_text().split(f"{PACKAGE} v")[1].split()[0]
    binary = CACHE / f"kustomize-{pinned}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "kustomize.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        if shutil.which("go") is None:
            raise RuntimeError("the manifests are rendered by kustomize, which needs Go to build")
        fresh = binary.with_suffix(".new")
        done = subprocess.run(
            ["go", "build", "-o", fresh, PACKAGE],
            cwd=MODULE,
            check=False,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
        if done.returncode:
            raise RuntimeError(f"Go cannot build kustomize: {done.stderr[-2000:]}")
        fresh.rename(binary)
    return binary


def _run(command: list[str], name: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RENDER_S)
    if done.returncode or done.stderr:  # it warns of what it will not take some day
        raise ManifestError(f"{name}: {done.stderr.strip()}")
    return done.stdout


def _problem(one: Object, version: str) -> str | None:
    if (one["apiVersion"], one["kind"]) in FOREIGN:
        return None
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return f"{error.message}: an object of somebody else is named in tools/k8s.py"
    return None


def main() -> int:
    """Checks every variant; 1: something is wrong."""
    problems: list[str] = []
    seen: list[Object] = []
    for variant in variants():
        try:
            objects = render(variant)
        except ManifestError as error:
            problems.append(str(error))
            continue
        # Most objects are the same in many variants.
        fresh = [one for one in objects if one not in seen]
        seen += fresh
        problems += [f"{variant}: {problem}" for problem in check(fresh)]
    print("\n".join(problems), end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
