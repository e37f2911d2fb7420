"""The import rules hold, no module is dead, and import-linter would notice if one of its contracts broke."""

from __future__ import annotations

import ast
import os
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.architecture.sources import COMMON, ROOT, SERVICES, all_modules, service_source, shown, tree
from tests.architecture.whiteboard import CALLS, cycles

# What nobody imports because something else begins with it.
ENTRANCES = {
    "main.py": "the command of a service",
    "env.py": "alembic runs it",
    "conftest.py": "pytest runs it",
    "testing.py": "a plugin of pytest, named in conftest.py",
    "cli.py": "the `saldo` command",
}


def _lint_imports(*paths: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_import_contracts_hold() -> None:
    """Independent services, a chassis that knows none of them, layers inside each."""
    told = _lint_imports()
    assert told.returncode == 0, told.stdout


def test_every_import_contract_bites(tmp_path: Path) -> None:
    """A suite like ours in which each of them is broken once."""
    sample = {
        "common/__init__.py": "",
        "common/money.py": "import catalog.domain",
        "catalog/__init__.py": "",
        "catalog/domain.py": "from catalog import store",
        "catalog/store.py": "",
        "invoicing/__init__.py": "",
        "invoicing/usecases.py": "import catalog.store\nimport tools",
        **{f"{name}/__init__.py": "" for name in ("subscriptions", "metering", "payments", "dunning", "tools")},
    }
    for name, text in sample.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    told = _lint_imports(tmp_path)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    summary = " ".join(told.stdout.split())
    assert told.returncode != 0
    assert [each["name"] for each in contracts if f"{each['name']} BROKEN" not in summary] == []


def test_the_graph_of_calls_has_no_cycle() -> None:
    """Two services that wait for each other are one service with two ways to fail."""
    assert list(cycles(CALLS)) == []
    assert list(cycles(CALLS | {"catalog": {"dunning"}}))


def test_no_module_is_dead() -> None:
    """Code that nothing leads to is code that nobody dares to delete."""
    assert _dead(all_modules()) == []


def test_a_dead_module_is_found(tmp_path: Path) -> None:
    """The one that nothing imports, and not the one that something does."""
    (tmp_path / "alive.py").write_text('import needed\nif __name__ == "__main__":\n    needed.start()\n')
    (tmp_path / "needed.py").write_text("def start(): ...\n")
    (tmp_path / "forgotten.py").write_text("def start(): ...\n")
    assert _dead(sorted(tmp_path.glob("*.py"))) == ["forgotten.py"]


def _dead(paths: Sequence[Path]) -> list[str]:
    modules = [path for path in paths if path.name != "__init__.py"]
    wanted = {name for path in paths for name in _imported(path)}
    return [shown(path) for path in modules if not _is_entrance(path) and _dotted(path) not in wanted]


def _imported(path: Path) -> Iterator[str]:
    """Everything that may be a module: for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(_dotted(path).split(".")[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (package, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _is_entrance(path: Path) -> bool:
    return (
        path.name in ENTRANCES
        or path.name.startswith("test_")
        or path.parent.name == "versions"
        or '__name__ == "__main__"' in path.read_text()
    )


def _dotted(path: Path) -> str:
    """The name by which a module is imported."""
    for root in (COMMON.parent, *(service_source(service).parent for service in SERVICES), ROOT):
        if path.is_relative_to(root):
            return ".".join(path.relative_to(root).with_suffix("").parts)
    return path.stem
