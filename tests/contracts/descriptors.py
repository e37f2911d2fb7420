"""Knows the contracts as protobuf describes them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor, MethodDescriptor

from tests.architecture.sources import SERVICES
from tools.protos import PROTOS, sources

PACKAGES = (*SERVICES, "operations")


def files() -> list[FileDescriptor]:
    """Every contract, generated."""
    names = [str(path.relative_to(PROTOS).with_suffix("")).replace("/", ".") + "_pb2" for path in sources()]
    found: list[FileDescriptor] = [importlib.import_module(name).DESCRIPTOR for name in names]
    return found


def package_of(file: FileDescriptor) -> str:
    """`catalog`, of `saldo.catalog.v1`."""
    return file.package.split(".")[1]


def messages(file: FileDescriptor) -> Iterator[Descriptor]:
    waiting = list(file.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        yield message
        waiting += message.nested_types


def enums(file: FileDescriptor) -> Iterator[EnumDescriptor]:
    yield from file.enum_types_by_name.values()
    for message in messages(file):
        yield from message.enum_types


def methods(file: FileDescriptor) -> Iterator[MethodDescriptor]:
    for service in file.services_by_name.values():
        yield from service.methods


def events(service: str) -> list[Descriptor]:
    module = importlib.import_module(f"saldo.{service}.v1.events_pb2")
    return list(module.DESCRIPTOR.message_types_by_name.values())
