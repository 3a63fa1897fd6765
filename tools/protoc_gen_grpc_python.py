"""A protoc plugin that writes grpcio's `_pb2_grpc.py` files.

grpcio's Python generator is compiled into `grpc_tools.protoc` and cannot be called as a plugin, and
buf refuses it as a builtin. This stands between the two: it takes buf's request on stdin, lets
`grpc_tools.protoc` do the work in a temporary folder, and answers with the files on stdout. Files
without a service are left out.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import Edition, FileDescriptorSet


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Runs the generator over the files asked for that declare a service.

    Args:
        request: what buf sends: the files to generate, and all they import.

    Returns:
        The files written, or protoc's message in `error` if it refused.
    """
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
        | CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS,
        minimum_edition=Edition.EDITION_PROTO2,
        maximum_edition=Edition.EDITION_2023,
    )
    asked_for = set(request.file_to_generate)
    targets = [f.name for f in request.proto_file if f.service and f.name in asked_for]
    if not targets:
        return response

    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        out = Path(folder, "out")
        out.mkdir()
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"--descriptor_set_in={descriptors}",
            f"--grpc_python_out={out}",
            *targets,
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            response.error = run.stderr or f"grpc_tools.protoc ended with {run.returncode}"
            return response
        for path in sorted(out.rglob("*.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    return response


if __name__ == "__main__":
    reply = generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(reply.SerializeToString())
