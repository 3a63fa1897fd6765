"""k8s/: what the objects name is there, and pods keep the rules."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.k8s import references
from tests.k8s.references import Object, of_kind, pods
from tools import k8s

ROOT = Path(__file__).parents[2]
URLS = ("coordination-url", "redis-url", "accounts-url", "chat-url")
# Made by hand, by cert-manager or by a Job, and not by the overlay.
BY_HAND = {
    "chinwag-engines": URLS,
    "chinwag-engines-ca": ("ca.crt",),
    "chinwag-mesh-tls": ("tls.crt", "tls.key", "ca.crt"),
    "chinwag-client-tls": ("tls.crt", "tls.key"),
}
MARGIN_S = 5


def test_every_object_is_one_that_kubernetes_takes(objects: list[Object]) -> None:
    assert k8s.check(objects) == []


def test_what_is_no_kubernetes_object_is_found(dev: list[Object]) -> None:
    node = copy.deepcopy(next(iter(of_kind(dev, "Deployment"))))
    node["spec"]["replica"] = 3
    assert len(k8s.check([node])) == len(k8s.VERSIONS)
    unknown = {"apiVersion": "apps/v1", "kind": "Deploiment", "metadata": {"name": "x"}}
    assert "Couldn't find schema" in k8s.check([unknown])[0]


def test_every_secret_and_setting_is_given(variant: k8s.Variant, objects: list[Object]) -> None:
    external = dict(BY_HAND)
    if variant.overlay == "dev":
        del external["chinwag-engines"]  # the overlay makes it
    assert references.missing_keys(objects, external) == []


def test_a_key_that_nobody_gives_is_found(prod: list[Object]) -> None:
    assert references.missing_keys(prod, {**BY_HAND, "chinwag-engines": URLS[:-1]}) == [
        "Deployment chinwag: Secret chinwag-engines chat-url",
        "Job chinwag-migrate: Secret chinwag-engines chat-url",
    ]


def test_no_real_secret_is_in_the_tree(prod: list[Object], dev: list[Object]) -> None:
    assert of_kind(prod, "Secret") == []
    assert [name for one in of_kind(dev, "Secret") for name in one["data"]] == sorted(
        [*URLS, "postgres-password", "redis-password"]
    )


def test_the_page_names_each_secret_that_is_made_by_hand() -> None:
    page = (ROOT / "docs/deploy.md").read_text()
    for name, keys in BY_HAND.items():
        row = re.search(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert row is not None, name
        assert all(f"`{key}`" in row[0] for key in keys), row[0]


def test_volumes_selectors_and_ports_agree(objects: list[Object]) -> None:
    assert references.missing_mounts(objects) == []
    assert references.selects_nothing(objects) == []
    assert references.unknown_ports(objects) == []


def test_a_selector_and_a_port_of_nobody_are_found(dev: list[Object]) -> None:
    broken = copy.deepcopy(dev)
    for one in of_kind(broken, "Service"):
        if one["metadata"]["name"] == "chinwag":
            one["spec"]["ports"][0]["targetPort"] = "grcp"
        if one["metadata"]["name"] == "redis":
            one["spec"]["selector"]["app.kubernetes.io/name"] = "reddis"
    assert len(references.unknown_ports(broken)) == 1
    assert len(references.selects_nothing(broken)) == 1


def test_names_of_one_kind_are_one_and_in_one_namespace(objects: list[Object]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    (namespace,) = of_kind(objects, "Namespace")
    own = {one["metadata"].get("namespace") for one in objects if one is not namespace}
    assert own == {namespace["metadata"]["name"]}


def test_the_autoscaler_scales_the_nodes_and_nothing_else_says_how_many(
    objects: list[Object],
) -> None:
    scaled = {
        one["spec"]["scaleTargetRef"]["name"] for one in of_kind(objects, "HorizontalPodAutoscaler")
    }
    assert "chinwag" in scaled
    for one in of_kind(objects, "Deployment"):
        assert ("replicas" in one["spec"]) != (one["metadata"]["name"] in scaled)


def test_a_node_has_the_time_that_its_drain_takes(objects: list[Object]) -> None:
    (node,) = (
        one for one in of_kind(objects, "Deployment") if one["metadata"]["name"] == "chinwag"
    )
    spec = node["spec"]["template"]["spec"]
    pause_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = int(settings_of(objects)["CHINWAG_DEADLINES_DRAIN_MS"]) / 1000
    assert spec["terminationGracePeriodSeconds"] >= pause_s + drain_s + MARGIN_S


def test_migrate_has_the_settings_of_a_node(objects: list[Object]) -> None:
    containers = {
        name: template["spec"]["containers"][0] for name, template in pods(objects).items()
    }
    node, migrate = containers["Deployment chinwag"], containers["Job chinwag-migrate"]
    assert node["image"] == migrate["image"]
    assert node["envFrom"] == migrate["envFrom"]
    zone = "CHINWAG_MESH_ZONE"  # of a pod, and not of the schemas
    assert [one for one in node["env"] if one["name"] != zone] == migrate["env"]


def test_every_pod_is_restricted(objects: list[Object]) -> None:
    for name, template in pods(objects).items():
        spec: dict[str, Any] = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # Services of the namespace would be CHINWAG_... variables, which a node refuses.
        assert spec["enableServiceLinks"] is False, name
        assert (spec.get("automountServiceAccountToken") is False) != (
            spec.get("serviceAccountName") == "certificates"
        ), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
            assert not container["image"].endswith((":latest", container["name"])), name


def test_certificates_are_as_nodes_expect_them(objects: list[Object]) -> None:
    services = {one["metadata"]["name"] for one in of_kind(objects, "Service")}
    for one in of_kind(objects, "Certificate"):
        assert set(one["spec"].get("dnsNames", [])) <= services
    made = {one["spec"]["secretName"] for one in of_kind(objects, "Certificate")}
    assert made in (set(), {"chinwag-mesh-ca", "chinwag-mesh-tls"})


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_kubectl_makes_the_same_of_it(overlay: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", k8s.K8S / "overlays" / overlay],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    key = references.name_of
    rendered = k8s.render(k8s.Variant(overlay))
    assert sorted(k8s.parse(done.stdout), key=key) == sorted(rendered, key=key)


def settings_of(objects: list[Object]) -> dict[str, str]:
    """The ConfigMap of settings."""
    (found,) = (
        one
        for one in of_kind(objects, "ConfigMap")
        if one["metadata"]["name"].startswith("chinwag-settings-")
    )
    data: dict[str, str] = found["data"]
    return data
