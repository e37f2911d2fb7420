"""Knows how a catalog is written as YAML: the same catalog always as the same text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final

from catalog.document.entries import Catalog, Entry
from catalog.document.tree import Literal, Tree, tree_of

LINE_WIDTH: Final = 120
FLOW_DEPTH_MAX: Final = 2
"""What is nested deeper stands on lines of its own, however short it is."""
ONE_BY_ONE: Final = frozenset({"prices"})
"""Lists whose every entry has a line of its own, so that a change of one is a change of one line."""


def write(catalog: Catalog) -> str:
    """What is named stands before what names it; each section is in order of its codes, a plan in order of time."""
    sections: dict[str, Sequence[Entry]] = {
        "tax_codes": catalog.tax_codes,
        "products": catalog.products,
        "features": catalog.features,
        "plans": catalog.plans,
        "coupons": catalog.coupons,
    }
    lines: list[str] = []
    for name, entries in sections.items():
        if entries:
            lines.append(f"{name}:")
            for entry in sorted(entries, key=attrgetter("code")):
                lines += _item(tree_of(entry), indent=2)
    return "\n".join(lines or ["{}"]) + "\n"


def written(tree: Tree) -> str:
    """In one line, however long."""
    if isinstance(tree, Literal):
        return str(tree)
    if isinstance(tree, str):
        return tree if _is_plain(tree) else f'"{_ESCAPED.sub(_escape, tree)}"'
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{written(key)}: {written(value)}" for key, value in tree.items()) + "}"
    return "[" + ", ".join(written(value) for value in tree) + "]"


def _item(tree: Tree, *, indent: int) -> Iterator[str]:
    """An entry of a list."""
    lead = " " * indent + "- "
    if (line := _in_line(tree, room=LINE_WIDTH - len(lead))) is not None:
        yield lead + line
        return
    assert isinstance(tree, Mapping), "a list in a list is short"
    for n, line in enumerate(_keys(tree, indent=indent + 2)):
        yield line if n else lead + line.lstrip(" ")


def _keys(tree: Mapping[str, Tree], *, indent: int) -> Iterator[str]:
    for key, value in tree.items():
        lead = " " * indent + written(key) + ":"
        line = _in_line(value, room=LINE_WIDTH - len(lead) - 1)
        if line is not None and key not in ONE_BY_ONE:
            yield f"{lead} {line}"
        elif isinstance(value, Mapping):
            yield lead
            yield from _keys(value, indent=indent + 2)
        else:
            yield lead
            for each in value:
                yield from _item(each, indent=indent + 2)


def _in_line(tree: Tree, *, room: int) -> str | None:
    if isinstance(tree, str):
        return written(tree)
    if _depth(tree) > FLOW_DEPTH_MAX or len(line := written(tree)) > room:
        return None
    return line


def _depth(tree: Tree) -> int:
    if isinstance(tree, str):
        return 0
    return 1 + max((_depth(value) for value in (tree.values() if isinstance(tree, Mapping) else tree)), default=0)


def _is_plain(text: str) -> bool:
    """Whether any reader of YAML takes it for the text that it is, also inside of brackets."""
    return bool(_PLAIN.fullmatch(text)) and text.lower() not in _NO_TEXTS


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return f"\\{character}" if character in '"\\' else f"\\U{ord(character):08x}"


_PLAIN: Final = re.compile(r"[^\W\d_](?:[\w./ -]*[\w./-])?")
_NO_TEXTS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
# The quote, the backslash, and what YAML does not let stand as it is.
_ESCAPED: Final = re.compile(
    r'["\\]|[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]'
)
