"""What Envoy has to know of the contract's methods, from its descriptors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.rpc import error_details_pb2

from chinwag.account.v1 import account_service_pb2
from chinwag.chat.v1 import chat_service_pb2
from chinwag.common.v1 import options_pb2
from chinwag.presence.v1 import presence_service_pb2
from chinwag.push.v1 import push_service_pb2

FILES: tuple[FileDescriptor, ...] = (
    account_service_pb2.DESCRIPTOR,
    chat_service_pb2.DESCRIPTOR,
    presence_service_pb2.DESCRIPTOR,
    push_service_pb2.DESCRIPTOR,
)
# Served beside them, and open: health for who balances, reflection for who explores.
OPEN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

_RETRIABLE = (
    descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
    descriptor_pb2.MethodOptions.IDEMPOTENT,
)


@dataclass(slots=True, frozen=True)
class Method:
    """A method of the contract.

    Attributes:
        path: "/package.Service/Method".
        anonymous: It may be called without a token.
        streams: In either direction.
        retriable: Doing it twice is as good as once.
    """

    path: str
    anonymous: bool
    streams: bool
    retriable: bool


def services() -> list[str]:
    """The full names of the public services."""
    return [name for name, _ in _services()]


def methods() -> list[Method]:
    """All methods of the public services."""
    return [
        Method(
            path=f"/{name}/{method.name}",
            anonymous=method.GetOptions().Extensions[options_pb2.access].anonymous,
            streams=method.client_streaming or method.server_streaming,
            retriable=method.GetOptions().idempotency_level in _RETRIABLE,
        )
        for name, found in _services()
        for method in found
    ]


def _services() -> Iterator[tuple[str, Sequence[MethodDescriptor]]]:
    for file in FILES:
        for service in file.services_by_name.values():
            yield service.full_name, service.methods


def descriptor_set() -> bytes:
    """The contract and all that it imports, as a serialised `FileDescriptorSet`."""
    found: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name in found:
            return
        for imported in file.dependencies:
            visit(imported)
        found[file.name] = file

    for file in (*FILES, error_details_pb2.DESCRIPTOR):  # what a status' details are
        visit(file)
    files = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(files.file.add())
    return files.SerializeToString(deterministic=True)
