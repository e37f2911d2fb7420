"""`saldo call` reaches every RPC of every contract by service and name."""

from __future__ import annotations

import grpc.aio
import pytest

from common.testing import SERVICES
from tests.contracts.descriptors import files, methods, package_of
from tools.client import Client
from tools.commands.calls import STUBS, methods_of

STREAMS = {"StreamEvents"}


@pytest.mark.parametrize("service", SERVICES)
async def test_every_rpc_has_a_stub(service: str) -> None:
    """A contract that the client does not know could only be called with another tool."""
    published = [method for file in files() if package_of(file) == service for method in methods(file)]
    found = methods_of(service)
    assert sorted(method.full_name for method in published) == sorted(each.full_name for each in found.values())
    async with Client(dict.fromkeys(SERVICES, "127.0.0.1:1"), token="") as client:
        for name, method in found.items():
            stub = getattr(client, STUBS.get(method.containing_service.name, service))
            kind = grpc.aio.StreamStreamMultiCallable if name in STREAMS else grpc.aio.UnaryUnaryMultiCallable
            assert isinstance(getattr(stub, name), kind), name
