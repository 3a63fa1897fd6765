"""Envoy before the nodes: its configuration from settings, and Envoy as a child of a node.

`render.bootstrap(Front(...))` gives the whole configuration as a value that `json.dumps` turns into
a file Envoy reads. What is known of methods (who may call them without a token, which are streams,
which may be retried) comes from the contract's descriptors (`methods`), never from a list.
Nothing here decides what a node decides: a token that Envoy lets through is verified again.
"""
