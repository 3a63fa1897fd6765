"""Every variant of k8s/, rendered once."""

from __future__ import annotations

import functools

import pytest

from tests.k8s.references import Object
from tools import k8s


@functools.cache
def _render(variant: k8s.Variant) -> list[Object]:
    return k8s.render(variant)


@pytest.fixture(params=list(k8s.variants()), ids=str)
def variant(request: pytest.FixtureRequest) -> k8s.Variant:
    """One of them all."""
    found: k8s.Variant = request.param
    return found


@pytest.fixture
def objects(variant: k8s.Variant) -> list[Object]:
    """The objects of `variant`; not to be changed."""
    return _render(variant)


@pytest.fixture
def dev() -> list[Object]:
    return _render(k8s.Variant("dev"))


@pytest.fixture
def prod() -> list[Object]:
    return _render(k8s.Variant("prod"))


@pytest.fixture
def monitored() -> list[Object]:
    """prod with metrics."""
    return _render(k8s.Variant("prod", ("service-monitor",)))
