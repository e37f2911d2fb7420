"""Knows the rules of the house that no linter has: each looks at one module and says what breaks it."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LINES_MAX: Final = 500

# What the pure room may use of the standard library: nothing that waits, reads, writes, guesses or tells.
PURE_STDLIB: Final = frozenset(
    {
        "__future__",
        "abc",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
    }
    | {"calendar", "heapq", "itertools", "math", "operator", "re", "string", "typing", "unicodedata", "zoneinfo"}
    | {"hashlib", "json", "base64", "binascii", "contextlib", "textwrap"}
)
PURE_COMMON: Final = frozenset({"common.money", "common.period", "common.ids", "common.errors"})

WALL_CLOCKS: Final = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns", "time.localtime"}
    | {"time.gmtime", "func.now", "func.current_timestamp", "func.clock_timestamp"}
)
LOOP_CLOCKS: Final = frozenset({"loop.time", "get_running_loop().time", "get_event_loop().time"})
SQL_CLOCK: Final = re.compile(
    r"\b(?:now\(\)|clock_timestamp\(\)|current_timestamp\b|statement_timestamp\(\))", re.IGNORECASE
)

# docs/glossary.md says what to call these things instead.
BANNED_WORDS: Final = frozenset(
    {"manager", "helper", "helpers", "util", "utils", "processor", "interactor", "impl", "dto", "tenant", "account"}
    | {"fee", "charge", "cycle", "organization", "bundle"}
)
# A customer is no account; the books have accounts, and the whole name says that it is one of those.
OF_THE_BOOKS: Final = frozenset({"ledger", "account"})
UNFINISHED: Final = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "HA" + "CK")) + r")\b")
IGNORE: Final = re.compile(r"#\s*type:\s*ignore(?:\[[\w, -]*\])?")


@dataclass(frozen=True, slots=True)
class Finding:
    line: int
    text: str


class Module:
    """One module, read once."""

    def __init__(self, source: str, *, name: str = "module") -> None:
        self.name = name
        self.source = source
        self.lines = source.splitlines()
        self.tree = ast.parse(source)
        self.comments = _comments(source)

    @classmethod
    def at(cls, path: Path) -> Module:
        return cls(path.read_text(), name=path.stem)


def clock_readings(module: Module, *, loops: bool = True) -> Iterator[Finding]:
    """Time comes from `tx.now` or an argument. Waiting may use `time.monotonic` and `time.perf_counter`."""
    banned = WALL_CLOCKS | (LOOP_CLOCKS if loops else frozenset())
    attributes = {each.rpartition(".")[2] for each in banned}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in attributes:
            text = ast.unparse(node)
            if any(text == each or text.endswith(f".{each}") for each in banned):
                yield Finding(node.lineno, text)


def sql_clocks(module: Module) -> Iterator[Finding]:
    """A sandbox's rows are never older or younger than its own time: the database's clock is not asked either."""
    docstrings = {id(each) for each in _docstrings(module.tree)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from (Finding(node.lineno, found[0]) for found in SQL_CLOCK.finditer(node.value))


def floats(module: Module) -> Iterator[Finding]:
    """A cent is not a power of two."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and node.id == "float":
            yield Finding(node.lineno, "float")
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield Finding(node.lineno, repr(node.value))
        elif isinstance(node, ast.Attribute) and node.attr == "total_seconds":
            yield Finding(node.lineno, "total_seconds, which is a float: divide timedeltas by timedeltas")


def prints(module: Module) -> Iterator[Finding]:
    """A service speaks through its log."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "pprint"):
            yield Finding(node.lineno, node.func.id)


def impurities(module: Module, *, service: str) -> Iterator[Finding]:
    """The domain is values and rules: no waiting, nothing from outside but four modules of the chassis."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield Finding(node.lineno, "async")
    for line, name in imports(module.tree):
        top = name.partition(".")[0]
        pure = name.startswith(f"{service}.domain") or top in PURE_STDLIB or _within(name, PURE_COMMON)
        if not pure:
            yield Finding(line, f"imports {name}")


def unexplained_any(module: Module) -> Iterator[Finding]:
    """`Any` switches the type checker off: the line says why that is right there."""
    for statement in _statements(module.tree):
        used = [node for node in _own_nodes(statement) if isinstance(node, ast.Name) and node.id == "Any"]
        if used and not any("Any" in module.comments.get(line, "") for line in _head(statement)):
            yield Finding(used[0].lineno, "Any without a reason")


def unexplained_ignores(module: Module) -> Iterator[Finding]:
    """`# type: ignore[code] # reason`, or the reason in a comment on the line above, for one or several in a row."""
    explained = -1
    for line, comment in module.comments.items():
        if IGNORE.search(comment):
            above = module.lines[line - 2].lstrip() if line > 1 else ""
            if IGNORE.sub("", comment).strip("# ") or above.startswith("#") or explained == line - 1:
                explained = line
            else:
                yield Finding(line, comment)


def unfinished(module: Module) -> Iterator[Finding]:
    """What is not done belongs in an issue, where somebody looks."""
    for number, line in enumerate(module.lines, start=1):
        if found := UNFINISHED.search(line):
            yield Finding(number, found[0])
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplemented" in ast.unparse(node.exc):
            yield Finding(node.lineno, "NotImplementedError")


def overlong(module: Module) -> Iterator[Finding]:
    """A module that long hides a noun."""
    if len(module.lines) > LINES_MAX:
        yield Finding(LINES_MAX, f"{len(module.lines)} lines")


def banned_names(module: Module) -> Iterator[Finding]:
    """One word per concept; these name none."""
    named: list[tuple[int, str]] = [(1, module.name)]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            named.append((node.lineno, node.name))
    for line, name in named:
        said = words(name)
        if found := BANNED_WORDS & (said - OF_THE_BOOKS if said >= OF_THE_BOOKS else said):
            yield Finding(line, f"{name}: {', '.join(sorted(found))}")


def mute(module: Module) -> Iterator[Finding]:
    """A module opens with one sentence about what it knows."""
    if module.tree.body and not ast.get_docstring(module.tree):
        yield Finding(1, "no docstring")


def words(name: str) -> set[str]:
    """`InvoiceNotDraft` → invoice, not, draft; `finalize_invoice` → finalize, invoice."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module imported, by its full name; for `from a import b` both `a` and, should b be a module, `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module in ("common", "saldo"):
                for alias in node.names:
                    yield node.lineno, f"{node.module}.{alias.name}"
            else:
                yield node.lineno, node.module


def is_stdlib(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _within(name: str, modules: Collection[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                yield first.value


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.stmt))


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """What belongs to a statement and not to one inside it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]


def _head(statement: ast.stmt) -> range:
    """The lines of a statement without those inside it; a comment may stand on any of them."""
    body = getattr(statement, "body", None)
    inside = body[0].lineno if isinstance(body, list) and body and isinstance(body[0], ast.stmt) else None
    last = (inside - 1) if inside is not None else (statement.end_lineno or statement.lineno)
    return range(statement.lineno, max(last, statement.lineno) + 1)
