"""The chinwag server: one room a service, a composition root (`node`), and the command line.

Rules know no gRPC and no driver: they speak to ports (`typing.Protocol`), which adapters
implement. ARCHITECTURE.md at the top of the repository has the map.
"""

__version__ = "0.1.0"
