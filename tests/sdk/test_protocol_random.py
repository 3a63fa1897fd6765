"""The core against a model server of two nodes, with all that may go wrong, in random order.

What must hold: the application sees every channel dense (within what the user may see), in order,
each entry once; every message is stored once, in the order of the calls, and its outcome is true.
"""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.sdk.world import World


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**48), steps=st.integers(1, 400))
@example(seed=1, steps=2000)
def test_dense_in_order_and_once(seed: int, steps: int) -> None:
    world = World(seed)
    world.run(steps)
    world.settle()
    world.check()
