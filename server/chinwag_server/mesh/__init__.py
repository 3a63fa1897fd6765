"""The mesh: how nodes find each other, agree on who owns which shard, and talk.

Rules live here and speak to the port `coordination.Coordination`; its adapters are `etcd` and
`memory_coordination`. Nothing here imports a driver but the adapters.
"""
