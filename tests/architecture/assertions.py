"""Knows whether a test can fail: it asserts, expects a refusal, or calls something that does."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from tests.architecture.rules import Finding, Module

EXPECTING = frozenset({"raises", "warns", "refused", "fail"})
RAISING = "check_"  # by convention, these return nothing or raise: that they return is the assertion
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Assertions:
    """Which functions assert something, by themselves or through others, over all modules that were read."""

    def __init__(self, modules: Iterable[Module]) -> None:
        functions = [function for module in modules for function in _functions(module.tree)]
        self._asserting = {function.name for function in functions if _asserts(function)}
        while fresh := {
            function.name
            for function in functions
            if function.name not in self._asserting and not _is_test(function) and self._asserting & _called(function)
        }:
            self._asserting |= fresh

    def toothless(self, module: Module) -> Iterator[Finding]:
        """Tests that pass whatever happens."""
        for function in filter(_is_test, _functions(module.tree)):
            if not _asserts(function) and not (self._asserting & _called(function)):
                yield Finding(function.lineno, f"{function.name} asserts nothing")


def unexplained(module: Module) -> Iterator[Finding]:
    """Tests that do not say why they are there."""
    for function in filter(_is_test, _functions(module.tree)):
        if not ast.get_docstring(function):
            yield Finding(function.lineno, f"{function.name} has no docstring")


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _is_test(function: Function) -> bool:
    return function.name.startswith("test_")


def _asserts(function: Function) -> bool:
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    if any(name.startswith(RAISING) for name in _called(function)):
        return True
    raised = (node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and node.exc is not None)
    return bool(EXPECTING & _called(function)) or any("AssertionError" in ast.unparse(each) for each in raised)


def _called(function: Function) -> set[str]:
    """The last part of the name of everything that is called."""
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }
