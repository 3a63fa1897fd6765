"""Whole nodes in the simulation: edges, links between nodes, bus, sessions and inboxes, and devices
that run the SDK's core over connections that break.

The log's rules run many times faster without them, so most seeds do (`tests.simulation.world`).
"""
