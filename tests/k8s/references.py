"""What the objects of an overlay say of each other: names, keys, ports, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = dict[str, Any]
Labels = Mapping[str, str]

_PODS = ("Deployment", "StatefulSet", "Job")


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """Those of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def name_of(one: Object) -> str:
    """For messages."""
    return f"{one['kind']} {one['metadata']['name']}"


def pods(objects: Sequence[Object]) -> dict[str, Object]:
    """Pod templates by the name of what makes pods of them."""
    return {name_of(one): one["spec"]["template"] for one in of_kind(objects, *_PODS)}


def keys_wanted(objects: Sequence[Object]) -> Iterator[tuple[str, str, str, str]]:
    """(pod, kind, name, key) of each Secret and ConfigMap that a pod needs; key "": all of it."""
    for owner, template in pods(objects).items():
        for container in template["spec"]["containers"]:
            for source in container.get("envFrom", []):
                yield owner, "ConfigMap", source["configMapRef"]["name"], ""
            for variable in container.get("env", []):
                if wanted := variable.get("valueFrom", {}).get("secretKeyRef"):
                    yield owner, "Secret", wanted["name"], wanted["key"]
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume:
                yield owner, "ConfigMap", volume["configMap"]["name"], ""
            if "secret" in volume:
                yield owner, "Secret", volume["secret"]["secretName"], ""


def missing_keys(objects: Sequence[Object], external: Mapping[str, Sequence[str]]) -> list[str]:
    """What pods need and nobody gives.

    Args:
        external: Keys by name of the Secrets that are made by somebody else.
    """
    given: dict[tuple[str, str], set[str]] = {
        ("Secret", name): set(keys) for name, keys in external.items()
    }
    for one in of_kind(objects, "Secret", "ConfigMap"):
        keys = {*one.get("data", {}), *one.get("stringData", {})}
        given[one["kind"], one["metadata"]["name"]] = keys
    return [
        f"{owner}: {kind} {name} {key}"
        for owner, kind, name, key in keys_wanted(objects)
        if (kind, name) not in given or (key and key not in given[kind, name])
    ]


def missing_mounts(objects: Sequence[Object]) -> list[str]:
    """Mounts without a volume, and volumes that nobody mounts."""
    found = []
    for owner, template in pods(objects).items():
        claims = [
            claim["metadata"]["name"]
            for one in of_kind(objects, "StatefulSet")
            if name_of(one) == owner
            for claim in one["spec"].get("volumeClaimTemplates", [])
        ]
        volumes = [*claims, *(one["name"] for one in template["spec"].get("volumes", []))]
        mounts = [
            mount["name"]
            for container in template["spec"]["containers"]
            for mount in container.get("volumeMounts", [])
        ]
        if sorted(volumes) != sorted(mounts):
            found.append(f"{owner}: volumes {sorted(volumes)}, mounts {sorted(mounts)}")
    return found


def matches(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a selector with `matchLabels`, or the empty one, selects these."""
    assert set(selector) <= {"matchLabels"}, f"this test knows no {set(selector)}"
    wanted: Labels = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def selects_nothing(objects: Sequence[Object]) -> list[str]:
    """Selectors for which there is no pod, or for monitors no Service."""
    labels = [template["metadata"]["labels"] for template in pods(objects).values()]
    services = [one["metadata"]["labels"] for one in of_kind(objects, "Service")]
    found = []

    def look(one: Object, selector: Mapping[str, Any], among: Sequence[Labels] = labels) -> None:
        if not any(matches(selector, own) for own in among):
            found.append(f"{name_of(one)}: nothing has {selector}")

    for one in objects:
        spec = one.get("spec", {})
        match one["kind"]:
            case "Service":
                look(one, {"matchLabels": spec["selector"]})
            case "Deployment" | "StatefulSet":
                look(one, spec["selector"], [spec["template"]["metadata"]["labels"]])
                for spread in spec["template"]["spec"].get("topologySpreadConstraints", []):
                    look(one, spread["labelSelector"])
            case "PodDisruptionBudget":
                look(one, spec["selector"])
            case "NetworkPolicy":
                look(one, spec["podSelector"])
                for rule in (*spec.get("ingress", []), *spec.get("egress", [])):
                    for peer in (*rule.get("from", []), *rule.get("to", [])):
                        if "podSelector" in peer:
                            look(one, peer["podSelector"])
            case "ServiceMonitor":
                look(one, spec["selector"], services)
    return found


def ports_of(template: Object) -> dict[str, int]:
    """A pod's ports by name."""
    return {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }


_HTTPS = {443: 8443}


def unknown_ports(objects: Sequence[Object]) -> list[str]:
    """Ports that are named, by a Service, a probe or a monitor, and that no container has."""
    found = []
    templates = pods(objects)
    for one in of_kind(objects, "Service"):
        selector = {"matchLabels": one["spec"]["selector"]}
        for template in templates.values():
            if matches(selector, template["metadata"]["labels"]):
                own = ports_of(template)
                found += [
                    f"{name_of(one)}: {port}"
                    for port in one["spec"]["ports"]
                    # To the outside https is where browsers look for it.
                    if own.get(port["targetPort"], -1)
                    not in (port["port"], _HTTPS.get(port["port"]))
                ]
    for owner, template in templates.items():
        own = ports_of(template)
        for container in template["spec"]["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for how in ("grpc", "httpGet", "tcpSocket"):
                    port = container.get(probe, {}).get(how, {}).get("port")
                    if port is not None and port not in (*own, *own.values()):
                        found.append(f"{owner}: {probe} {port}")
    for one in of_kind(objects, "ServiceMonitor"):
        named = {
            port["name"]
            for service in of_kind(objects, "Service")
            if matches(one["spec"]["selector"], service["metadata"]["labels"])
            for port in service["spec"]["ports"]
        }
        wanted = {endpoint["port"] for endpoint in one["spec"]["endpoints"]}
        found += [f"{name_of(one)}: {port}" for port in wanted - named]
    return found
