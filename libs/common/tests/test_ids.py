"""Ids are TypeIDs by the published specification, sort by time, and say what kind of seller they name."""

from __future__ import annotations

import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import ids
from common.errors import InvalidArgument

NOON = datetime(2026, 2, 28, 12, 0, 0, 123_000, tzinfo=UTC)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2299, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
PREFIXES = st.from_regex(r"[a-z]([a-z_]{0,61}[a-z])?", fullmatch=True)
PARTS = st.lists(st.text(max_size=5), max_size=4)

# From the "valid" list that the TypeID specification publishes for implementations.
SPEC_VALID = [
    ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
    ("00000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
    ("0000000000000000000000000a", "00000000-0000-0000-0000-00000000000a"),
    ("0000000000000000000000000g", "00000000-0000-0000-0000-000000000010"),
    ("00000000000000000000000010", "00000000-0000-0000-0000-000000000020"),
    ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ("0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
    ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
]

# What it calls invalid, and what we do not want either.
SPEC_INVALID = [
    "PREFIX_00000000000000000000000000",  # upper case prefix
    "12345_00000000000000000000000000",  # digits in the prefix
    "pre.fix_00000000000000000000000000",  # other symbols in the prefix
    "préfix_00000000000000000000000000",  # not ASCII
    "  prefix_00000000000000000000000000",  # spaces around
    "a" * 64 + "_00000000000000000000000000",  # prefix of more than 63 letters
    "_00000000000000000000000000",  # separator without a prefix
    "_",
    "prefix_1234567890123456789012345",  # suffix of 25
    "prefix_123456789012345678901234567",  # suffix of 27
    "prefix_1234567890123456789012345 ",  # spaces in the suffix
    "prefix_0123456789ABCDEFGHJKMNPQRS",  # upper case suffix
    "prefix_123456789-123456789-123456",  # hyphens in the suffix
    "prefix_ooooooooooooooooooooooooooo",  # letters that look like digits
    "prefix_i23456789ol23456789oi23456",  # Crockford's ambiguous letters
    "prefix_ubvyzqmgqnbwbpvmjjzkjpubzz",  # u is not in the alphabet
    "prefix_123456789-0123456789-0123456",
    "prefix_8zzzzzzzzzzzzzzzzzzzzzzzzz",  # more than 128 bits
    "_prefix_00000000000000000000000000",  # prefix begins with an underscore
    "prefix__00000000000000000000000000",  # prefix ends with one
    "",
    "prefix_00000000000000000000000000\n",
]


@pytest.mark.parametrize("suffix, number", SPEC_VALID)
def test_the_encoding_is_that_of_the_specification(suffix: str, number: str) -> None:
    """Other tools must read our ids as the UUIDs they are."""
    assert ids.encode(uuid.UUID(number).int) == suffix
    assert uuid.UUID(int=ids.decode(suffix)) == uuid.UUID(number)
    assert ids.check(f"prefix_{suffix}", "prefix") == f"prefix_{suffix}"


@pytest.mark.parametrize("text", SPEC_INVALID)
def test_what_the_specification_refuses_is_refused(text: str) -> None:
    """An id that two programs read differently is two ids."""
    with pytest.raises(InvalidArgument) as refused:
        ids.check(text, "prefix", field="invoice_id")
    assert refused.value.field == "invoice_id"
    with pytest.raises(InvalidArgument):
        ids.prefix_of(text)


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1))
def test_encoding_loses_nothing(number: int) -> None:
    """All 128 bits survive, and longer numbers sort later as text too."""
    assert ids.decode(ids.encode(number)) == number
    assert len(ids.encode(number)) == 26


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_text_sorts_like_the_number(one: int, other: int) -> None:
    """Indexes on ids are indexes on time."""
    assert (ids.encode(one) < ids.encode(other)) == (one < other)


@settings(deadline=None)
@given(PREFIXES, INSTANTS)
def test_a_minted_id_is_a_uuid_of_version_7_and_tells_its_instant(prefix: str, at: datetime) -> None:
    """A sandbox's clock begins at the instant in its id, so it must be the very millisecond."""
    text = ids.mint(prefix, at)
    assert ids.check(text, prefix) == text
    assert ids.prefix_of(text) == prefix
    assert ids.instant_of(text) == at - timedelta(microseconds=at.microsecond % 1_000)
    number = uuid.UUID(int=ids.decode(text[-26:]))
    assert number.version == 7
    assert number.variant == uuid.RFC_4122


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=50))
def test_ids_of_one_instant_keep_the_order_of_minting(instants: list[int]) -> None:
    """The lines of an invoice are minted in one transaction and listed by id; other clocks may interleave."""
    minted: dict[int, list[str]] = {}
    for milliseconds in instants:
        at = NOON + timedelta(milliseconds=milliseconds)
        minted.setdefault(milliseconds, []).append(ids.mint("line", at))
    for of_one_instant in minted.values():
        assert of_one_instant == sorted(set(of_one_instant))


@settings(deadline=None)
@given(INSTANTS, st.timedeltas(timedelta(milliseconds=1), timedelta(days=365)))
def test_later_ids_sort_later(at: datetime, wait: timedelta) -> None:
    """Lists by id are lists by time."""
    assert ids.mint("inv", at) < ids.mint("inv", at + wait)


def test_threads_mint_different_ids() -> None:
    """Uniqueness does not rest on the clock, which stands still here."""
    with ThreadPoolExecutor(8) as pool:
        minted = list(pool.map(lambda _: ids.mint("evt", NOON), range(20_000)))
    assert len(set(minted)) == len(minted)


def test_processes_mint_different_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes whose counts happen to meet at one standing clock are kept apart by chance alone."""
    monkeypatch.setattr(ids, "_sequence", itertools.repeat(7))
    assert len({ids.mint("evt", NOON) for _ in range(1_000)}) == 1_000


def test_the_time_zone_of_the_instant_does_not_matter() -> None:
    """The same instant, seen from elsewhere."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-9)))
    assert ids.instant_of(ids.mint("inv", elsewhere)) == NOON


@pytest.mark.parametrize("prefix", ["", "Inv", "inv_", "_inv", "in1", "a" * 64])
def test_a_prefix_that_is_none_cannot_be_minted(prefix: str) -> None:
    """A typing error in a service shows in its first test."""
    with pytest.raises(ValueError, match="not a TypeID prefix"):
        ids.mint(prefix, NOON)


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), datetime(1969, 12, 31, 23, tzinfo=UTC)])  # noqa: DTZ001
def test_an_id_needs_an_instant(at: datetime) -> None:
    """Naive datetimes mean another instant on every machine."""
    with pytest.raises(ValueError, match=r"an instant|before 1970"):
        ids.mint("inv", at)


def test_an_id_of_another_kind_is_refused() -> None:
    """Passing a customer where an invoice is meant is the most common mistake with ids."""
    with pytest.raises(InvalidArgument, match="inv_"):
        ids.check(ids.mint("cus", NOON), "inv")


def test_an_id_without_an_instant_tells_none() -> None:
    """The nil UUID is a valid TypeID but was minted at no time; a year beyond all calendars is none."""
    with pytest.raises(InvalidArgument, match="UUIDv7"):
        ids.instant_of("inv_00000000000000000000000000")
    beyond = ids.encode((2**48 - 1) << 80 | 0x7 << 76 | 0b10 << 62)
    with pytest.raises(InvalidArgument, match="year 9999"):
        ids.instant_of(f"inv_{beyond}")


def test_a_seller_says_whether_it_is_a_sandbox() -> None:
    """No service may have to ask another whether time is real for this seller."""
    live, sandbox = ids.mint(ids.SELLER, NOON), ids.mint(ids.SANDBOX, NOON)
    assert ids.check_seller(live) == live
    assert ids.check_seller(sandbox) == sandbox
    assert not ids.is_sandbox(live)
    assert ids.is_sandbox(sandbox)
    assert ids.instant_of(sandbox) == NOON


@pytest.mark.parametrize(
    "text",
    [
        "sel_sandbox",
        "sel_sandbox_",
        "sel_sandbox_00000000000000000000000000",
        "sel_live_01h455vb4pex5vsknk084sn02q",
        "cus_01h455vb4pex5vsknk084sn02q",
        "sel_sandbox_sel_01h455vb4pex5vsknk084sn02q",
        "sel_01h455vb4pex5vsknk084sn02q' or true --",
    ],
)
def test_what_is_no_seller_is_refused(text: str) -> None:
    """The seller decides which rows are visible, so nothing half-right may pass."""
    with pytest.raises(InvalidArgument) as refused:
        ids.check_seller(text)
    assert refused.value.field == "seller"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_either_an_id_or_refused(text: str) -> None:
    """Nothing a caller sends may fail in another way."""
    for check in (ids.check_seller, ids.prefix_of, ids.instant_of):
        try:
            check(text)
        except InvalidArgument:
            continue


@settings(deadline=None)
@given(PREFIXES, INSTANTS, st.lists(st.text(max_size=20), max_size=5))
def test_a_derived_id_is_the_same_wherever_it_is_derived(prefix: str, at: datetime, parts: list[str]) -> None:
    """And an id like any other: with its instant, of version 7."""
    text = ids.derived(prefix, at, parts)
    assert text == ids.derived(prefix, at.astimezone(timezone(timedelta(hours=-9))), list(parts))
    assert ids.check(text, prefix) == text
    assert ids.instant_of(text) == at - timedelta(microseconds=at.microsecond % 1_000)


@settings(deadline=None)
@given(PARTS, PARTS)
def test_what_has_other_parts_has_another_id(one: list[str], other: list[str]) -> None:
    """Also where the same characters are divided in another way."""
    assert (ids.derived("inv", NOON, one) == ids.derived("inv", NOON, other)) == (one == other)


@settings(deadline=None)
@given(st.integers(0, ids.NTH_MAX - 1), PARTS, PARTS)
def test_further_ones_of_one_instant_sort_later(nth: int, one: list[str], other: list[str]) -> None:
    """What replaces another is listed behind it."""
    assert ids.derived("inv", NOON, one, nth=nth) < ids.derived("inv", NOON, other, nth=nth + 1)


@pytest.mark.parametrize("nth", [-1, ids.NTH_MAX + 1])
def test_there_are_only_so_many_further_ones(nth: int) -> None:
    """They have sixteen bits of the id."""
    with pytest.raises(ValueError, match="65535"):
        ids.derived("inv", NOON, (), nth=nth)


def test_a_derived_id_never_changes() -> None:
    """One of another release is looked for by what this release derives."""
    assert ids.derived("inv", NOON, ("sel", "cus", "EUR", "0")) == "inv_01kjj1xbkve008474a4vawm3yx"


def test_an_id_is_not_derived_for_an_instant_without_a_time_zone() -> None:
    """It would be another one in every time zone."""
    with pytest.raises(ValueError, match="time zone"):
        ids.derived("inv", NOON.replace(tzinfo=None), ())
