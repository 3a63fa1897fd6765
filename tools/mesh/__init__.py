"""A whole mesh on this machine, with real engines: `make mesh` runs it, tests break it.

`node` is one `chinwag serve`, `engines` what the nodes stand on, `mesh` both together; run as a
program it is `make mesh`.
"""

from tools.mesh.mesh import Mesh, temporary_folder
from tools.mesh.node import MeshNode

__all__ = ["Mesh", "MeshNode", "temporary_folder"]
