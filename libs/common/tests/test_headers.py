"""Headers of messages are read as the NATS client reads them, only faster."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from common.bus.jetstream import _Client

names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)
lines = st.one_of(
    st.builds("{}:{}".format, names, values),
    st.builds("{}: {} ".format, st.from_regex(r"[A-Za-z-]{1,12}", fullmatch=True), values),
    values,
)


@given(st.lists(lines, max_size=8))
def test_headers_are_read_as_the_client_reads_them(block: list[str]) -> None:
    """Also when they are none."""
    raw = "\r\n".join(block).encode() + b"\r\n\r\n"
    expected = Client._parse_header_lines(raw)
    expected.pop("", None)  # a header without a name is worth nothing to anyone
    assert _Client._parse_header_lines(raw) == expected


def test_bytes_that_are_no_text_are_replaced() -> None:
    """A stranger's message must not end the connection."""
    raw = b"ce-id: \xff\xfe evt\r\n\xff: x\r\n\r\n"
    assert _Client._parse_header_lines(raw) == Client._parse_header_lines(raw)
    assert "ce-id" in _Client._parse_header_lines(raw)
