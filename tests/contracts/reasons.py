"""Knows every reason for which a call can be refused: `python -m tests.contracts.reasons` pins them in reasons.json.

A reason is part of the contract: programs branch on it. Adding one is fine; renaming or removing one breaks callers.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Final

from common.errors import SaldoError, reason_of
from tests.architecture.sources import SERVICES

PINNED: Final = Path(__file__).with_name("reasons.json")

Reasons = dict[str, dict[str, str]]


def reasons() -> Reasons:
    """Kind by reason, for the chassis and each service. The kinds themselves are reasons too: of the chassis."""
    for package in ("common", *SERVICES):
        _import_all(package)
    found: Reasons = {package: {} for package in ("common", *SERVICES)}
    for error in _subclasses(SaldoError):
        package = error.__module__.partition(".")[0]
        if package in found:
            found[package][reason_of(error)] = error.kind.name
    return {package: dict(sorted(each.items())) for package, each in found.items()}


def pinned() -> Reasons:
    known: Reasons = json.loads(PINNED.read_text())
    return known


def _import_all(package: str) -> None:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        if ".migrations" not in module.name and module.name != "common.testing":
            importlib.import_module(module.name)


def _subclasses(error: type[SaldoError]) -> set[type[SaldoError]]:
    return {found for child in error.__subclasses__() for found in {child, *_subclasses(child)}}


if __name__ == "__main__":
    PINNED.write_text(json.dumps(reasons(), indent=2) + "\n")
