"""Knows the whiteboard: who may call whom, and what each `main.py` declares about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.sources import service_source, tree

# Runtime, gRPC: docs/architecture.md draws it.
CALLS: dict[str, set[str]] = {
    "catalog": set(),
    "subscriptions": {"catalog"},
    "metering": set(),
    "invoicing": {"catalog", "subscriptions", "metering"},
    "payments": {"invoicing"},
    "dunning": {"subscriptions", "payments"},
}

# Whose replicas hand calls on to one another, with the caller's own token: no call of the service in its own name.
FORWARDING: set[str] = {"metering"}


def declared_callers(service: str) -> set[str]:
    """`callers=` of `Service(…)` in a service's main.py."""
    found: ast.expr | None = _argument(service, "callers")
    return set(ast.literal_eval(found)) if found is not None else set()


def declared_neighbours(service: str) -> set[str]:
    """The services whose addresses are the values of `neighbours=` in a main.py; one may have several stubs."""
    found = _argument(service, "neighbours")
    if found is None:
        return set()
    if isinstance(found, ast.Name):
        found = _assigned(service, found.id)
    assert isinstance(found, ast.Dict), f"neighbours of {service} must be written as a dictionary"
    names = [value.attr for value in found.values if isinstance(value, ast.Attribute)]
    assert len(names) == len(found.values)
    return {name.removesuffix("_address") for name in names}


def declared_forwarding(service: str) -> bool:
    """Whether a service's main.py composes something that hands calls on to another replica."""
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Forwarding"
        for node in ast.walk(tree(service_source(service) / "main.py"))
    )


def _argument(service: str, name: str) -> ast.expr | None:
    calls = [
        node
        for node in ast.walk(tree(service_source(service) / "main.py"))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Service"
    ]
    assert len(calls) == 1, f"main.py of {service} must compose one Service"
    return next((keyword.value for keyword in calls[0].keywords if keyword.arg == name), None)


def _assigned(service: str, name: str) -> ast.expr:
    """What a local name of main.py stands for."""
    values = []
    for node in ast.walk(tree(service_source(service) / "main.py")):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            values.append(node.value)  # type: ignore[attr-defined] # both kinds of assignment have one
    assert len(values) == 1, f"{name} in main.py of {service} must have one value"
    assert isinstance(values[0], ast.expr)
    return values[0]


def cycles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Every way that leads back to where it began."""

    def walk(node: str, way: list[str]) -> Iterator[list[str]]:
        if node in way:
            yield [*way[way.index(node) :], node]
            return
        for following in sorted(graph[node]):
            yield from walk(following, [*way, node])

    for start in sorted(graph):
        yield from walk(start, [])
