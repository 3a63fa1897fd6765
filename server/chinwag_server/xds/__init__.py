"""The control plane: tells Envoy, and gRPC clients without a proxy, where the nodes are.

`resources` makes what is served from endpoints, `streams` serves it (ADS: state of the world and
delta), `sources` says where endpoints come from. `pb/` is generated from proto_xds/.
"""
