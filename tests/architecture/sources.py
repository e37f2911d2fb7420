"""Knows where the sources are that the rules are about."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("catalog", "subscriptions", "metering", "invoicing", "payments", "dunning")
COMMON = ROOT / "libs/common/src/common"
IGNORED = {".venv", ".saldo", "__pycache__", "gen", "third_party", "node_modules", ".git"}


def service_source(service: str) -> Path:
    return ROOT / "services" / service / "src" / service


def product_modules() -> list[Path]:
    """Every Python module that runs in production: the chassis and the six services."""
    folders = (COMMON, *(service_source(service) for service in SERVICES))
    return sorted(path for folder in folders for path in _modules(folder))


def all_modules() -> list[Path]:
    """Every Python module of the repository."""
    return sorted(_modules(ROOT))


def test_modules() -> list[Path]:
    return [path for path in all_modules() if path.name.startswith("test_")]


test_modules.__test__ = False  # type: ignore[attr-defined] # pytest would take it for a test


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def _modules(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in IGNORED and not path.is_symlink():
            yield from _modules(path)
        elif path.suffix == ".py":
            yield path
