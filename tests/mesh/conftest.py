"""Fixtures of the mesh's tests."""

from tests.mesh.etcd_fixtures import connect, empty_etcd, etcd, etcd_cluster, shared_etcd

__all__ = ["connect", "empty_etcd", "etcd", "etcd_cluster", "shared_etcd"]
