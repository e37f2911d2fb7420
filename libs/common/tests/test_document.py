"""A YAML document is read as it was written, and whatever it is, reading it ends well."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.document import DEPTH_MAX, Malformed, Value, parse


def fault(text: str) -> str:
    with pytest.raises(Malformed) as refused:
        parse(text, "document")
    return str(refused.value)


def test_scalars_stay_as_they_were_written() -> None:
    """A price of 0.10 that became a float would be another price; a code of 012 another code."""
    fields = parse("{a: 0.10, b: 012, c: 2012-01-01, d: true, e: '', f: ~, g: \"~\"}", "document").fields(
        required=list("abcdefg")
    )
    assert [fields[key].written for key in "abcdeg"] == ["0.10", "012", "2012-01-01", "true", "", "~"]
    with pytest.raises(Malformed, match="document:1:53: must be text, not empty"):
        fields["f"].text()


def test_places_count_characters() -> None:
    """An editor jumps to the column of a character, not of a byte."""
    with pytest.raises(Malformed, match="document:2:8: must be a decimal number"):
        parse("[é, è,\n  'é', no]", "document").items()[3].decimal()
    assert fault("name: é\n  x: é\0") == "document:2:7: not YAML: control characters are not allowed"


def test_an_alias_means_what_its_anchor_says() -> None:
    """Tiers that two prices share can be written once."""
    first, second = parse("[&tiers [1, 2], *tiers]", "document").items()
    assert [each.written for each in first.items()] == [each.written for each in second.items()] == ["1", "2"]
    assert fault("[*nowhere, &nowhere 1]") == "document:1:2: not YAML: found undefined alias 'nowhere'"
    assert "undefined alias" in fault("&self [*self]")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_a_document_of_any_depth_is_refused_in_words(opening: str) -> None:
    """The parser's own tree is built on the stack of the process: a short text would end a service."""
    assert "is nested too deeply" in fault(opening * 300_000)
    assert parse("[" * DEPTH_MAX + "]" * DEPTH_MAX, "document").is_list


def test_aliases_of_aliases_are_counted() -> None:
    """Thirty short lines could mean more values than there is memory for."""
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "has more than 1000000 values" in fault("\n".join(lines))


def test_a_document_is_no_larger_than_it_may_be() -> None:
    """Also in bytes: a text of wide characters is longer than it looks."""
    assert fault("# " + "é" * 2_000_000) == "document:1:1: is larger than 4000000 bytes"


def test_keys_are_known_and_there_once() -> None:
    """A mistyped key that were ignored would be a price that nobody meant."""
    with pytest.raises(Malformed) as refused:
        parse("a: 1\na: 2\nb: 3\n", "document").fields(required=["a", "c"])
    assert [fault.reason for fault in refused.value.faults] == [
        "c is missing",
        "a is there twice",
        "unknown key 'b'; known are a, c",
    ]
    with pytest.raises(Malformed, match="document:2:1: there are two of key a"):
        parse("a: 1\na: 2\n", "document").entries()
    assert list(parse("a: 1\nz: 2\n", "document").fields(required=["a"], others=True)) == ["a"]


@given(st.text(max_size=200))
def test_no_text_is_worse_than_malformed(text: str) -> None:
    """Garbage is refused in words, never with a stack trace."""
    with contextlib.suppress(Malformed):
        assert isinstance(parse(text, "document"), Value)
