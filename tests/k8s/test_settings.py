"""The variables of a node in the overlays are settings that a node takes."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

import pytest
import yaml

from chinwag_server.account.postgres import address as postgres
from chinwag_server.chat.cassandra import address as cassandra
from chinwag_server.config import sources
from chinwag_server.mesh.redis import address as redis
from k8s.overlays.dev import certificates
from tests.k8s.references import Object, of_kind, pods, ports_of

POD_IP = "10.0.0.9"


def variables(objects: list[Object], owner: str) -> dict[str, str]:
    """A container's environment as Kubernetes makes it; values of Secrets that are not here are
    `from-secret`."""
    data = {one["metadata"]["name"]: one["data"] for one in of_kind(objects, "ConfigMap", "Secret")}
    (container,) = pods(objects)[owner]["spec"]["containers"]
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        found |= data[source["configMapRef"]["name"]]
    for one in container["env"]:
        match one:
            case {"valueFrom": {"secretKeyRef": wanted}}:
                stored = data.get(wanted["name"], {}).get(wanted["key"])
                found[one["name"]] = base64.b64decode(stored).decode() if stored else "from-secret"
            case {"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}:
                found[one["name"]] = POD_IP
            case _:  # the zone, of a machine that says none
                found[one["name"]] = ""
    return found


@pytest.mark.parametrize("owner", ["Deployment chinwag", "Job chinwag-migrate"])
def test_a_node_takes_them(objects: list[Object], owner: str) -> None:
    given = {
        name: value
        for name, value in variables(objects, owner).items()
        if name.startswith(sources.ENV_PREFIX)
    }
    settings = sources.load(None, given).settings
    assert settings.stores.cluster_id
    assert settings.mesh.advertise == POD_IP
    # Only where something in front ends TLS.
    assert settings.listen.insecure == (settings.listen.tls_cert_file is None)


def test_they_listen_where_the_pod_says(objects: list[Object]) -> None:
    given = variables(objects, "Deployment chinwag")
    ports = ports_of(pods(objects)["Deployment chinwag"])
    assert ports == {
        "grpc": int(given["CHINWAG_LISTEN_PORT"]),
        "http": int(given["CHINWAG_HTTP_PORT"]),
        "mesh": int(given["CHINWAG_MESH_PORT"]),
    }
    for part in ("LISTEN", "HTTP", "MESH"):
        assert given[f"CHINWAG_{part}_HOST"] == "0.0.0.0"


def test_files_are_where_something_is_mounted(objects: list[Object]) -> None:
    (container,) = pods(objects)["Deployment chinwag"]["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for name, value in variables(objects, "Deployment chinwag").items():
        if name.endswith("_FILE"):
            assert value.rpartition("/")[0] in mounts, name


def test_urls_of_the_dev_overlay_lead_to_its_services(dev: list[Object]) -> None:
    given = variables(dev, "Deployment chinwag")
    services = {
        (one["metadata"]["name"], one["spec"]["ports"][0]["port"])
        for one in of_kind(dev, "Service")
    }
    chat = cassandra.Address.parse(given["CHINWAG_STORES_CHAT_URL"])
    assert chat.replicas == 1
    postgres.check(given["CHINWAG_STORES_ACCOUNTS_URL"])
    accounts = urlsplit(given["CHINWAG_STORES_ACCOUNTS_URL"])
    etcd = urlsplit(given["CHINWAG_MESH_COORDINATION_URL"])
    assert etcd.scheme == "etcd"
    used = {
        *chat.hosts,
        *redis.parse(given["CHINWAG_MESH_REDIS_URL"]).hosts,
        (accounts.hostname, accounts.port),
        (etcd.hostname, etcd.port),
    }
    assert used <= services
    assert len(used) == 4


def test_passwords_of_the_dev_overlay_are_those_in_its_urls(dev: list[Object]) -> None:
    (secret,) = of_kind(dev, "Secret")
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert redis.parse(data["redis-url"]).password == data["redis-password"]
    assert urlsplit(data["accounts-url"]).password == data["postgres-password"]


def test_cassandra_is_set_as_chinwag_needs_it(dev: list[Object]) -> None:
    (text,) = (
        one["data"]["cassandra.yaml"]
        for one in of_kind(dev, "ConfigMap")
        if "cassandra.yaml" in one["data"]
    )
    settings = yaml.safe_load(text)
    assert settings["commitlog_sync"] == "batch"
    assert settings["paxos_variant"] == "v2"
    # With more than one it would be found at an address that no other may reach.
    assert settings["listen_address"] == "127.0.0.1"


def test_nodes_expect_the_name_in_their_certificates(dev: list[Object]) -> None:
    name = "CHINWAG_MESH_TLS_NAME"
    if name not in {one.env for one in sources.declared()}:
        pytest.skip("there is no setting mesh.tls_name yet")
    assert variables(dev, "Deployment chinwag")[name] == certificates.NAME
