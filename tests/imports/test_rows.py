"""What a row of a file says becomes a usage event as it is written, or is told with its line and its column."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow  # type: ignore[import-untyped] # it has none
import pyarrow.parquet  # type: ignore[import-untyped] # it has none
import pytest

from tools.imports import reading
from tools.imports.layout import Layout, Unusable
from tools.imports.reading import Place, reader_of
from tools.imports.rows import Malformed, Row, row_of
from tools.imports.sending import columns_of

HEADER = "id,customer,meter,time,value\n"
ROW = "1,ann,kwh,2012-01-31T09:30:00Z,12.5\n"


def layout(**changes: Any) -> Layout:
    told: dict[str, Any] = {
        "file_name": "usage.csv", "columns": {}, "constants": {}, "without": frozenset(), "id_columns": (),
        "time_zone": None,
    }  # fmt: skip
    return Layout(**(told | changes))


def written(folder: Path, text: str | bytes, name: str = "usage.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(path: Path, of: Layout, after: Place = Place()) -> list[Row | tuple[int, str, str]]:  # noqa: B008 # frozen
    """The row, or its line, the column and the reason."""
    found: list[Row | tuple[int, str, str]] = []
    for record in reader_of(path, of).records(after):
        try:
            found.append(row_of(record, of))
        except Malformed as error:
            found.append((record.line, error.column, error.reason))
    return found


def one(path: Path, of: Layout) -> Row:
    (found,) = rows(path, of)
    assert isinstance(found, Row), found
    return found


def table(path: Path, columns: Mapping[str, Any], *, group: int = 1_000) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group)
    return path


def instant(row: Row) -> datetime:
    return datetime.fromtimestamp(row.micros // 1_000_000, UTC).replace(microsecond=row.micros % 1_000_000)


def test_the_three_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    """Whoever exports the same usage otherwise must not bill something else."""
    line = '{"id": "1", "customer": "ann", "meter": "kwh", "time": "2012-01-31T09:30:00.5Z",'
    line += ' "value": 12.50, "region": "eu"}'
    inner = line.replace('"region": "eu"', '"dimensions": {"region": "eu"}')
    text = HEADER.replace("value", "value,dimensions.region") + ROW.replace("00Z,12.5", "00.5Z,12.50,eu")
    columns = {
        "id": ["1"], "customer": ["ann"], "meter": ["kwh"], "value": [Decimal("12.50")], "region": ["eu"],
        "time": pyarrow.array([datetime(2012, 1, 31, 9, 30, 0, 500_000, tzinfo=UTC)]),
    }  # fmt: skip
    found = [
        one(written(tmp_path, text), layout()),
        one(written(tmp_path, line, "usage.jsonl"), layout()),
        one(written(tmp_path, inner, "other.ndjson"), layout()),
        one(table(tmp_path / "usage.parquet", columns), layout()),
    ]
    for row in found:
        assert (row.id, row.source, row.customer, row.meter) == (b"1", "import", "ann", "kwh")
        assert instant(row) == datetime(2012, 1, 31, 9, 30, 0, 500_000, tzinfo=UTC)
        assert (row.value, row.dimensions) == (Decimal("12.5"), (("region", "eu"),))


def test_names_constants_and_what_is_left_out(tmp_path: Path) -> None:
    """As others publish their files: nobody has to rewrite one."""
    path = written(tmp_path, "household;at;kWh;Note;meter\nMAC1;2012-01-31 09:30+01:00;3;x;y\n")
    of = layout(
        columns={"customer": "household", "time": "at", "value": "kWh"},
        constants={"meter": "electricity", "source": "ldn"},
        without={"Note"},
    )
    row = one(path, of)
    assert (row.customer, row.meter, row.source, row.value) == ("MAC1", "electricity", "ldn", Decimal(3))
    assert instant(row) == datetime(2012, 1, 31, 8, 30, tzinfo=UTC)
    assert row.dimensions == ()


def test_ids_are_the_same_whenever_the_file_is_read(tmp_path: Path) -> None:
    """Made of the file's name and the row, or of columns that tell rows apart; long ones become short."""
    text = "customer,meter,time\n" + "a/b,kwh,2012-01-31T09:30:00Z\n\n" + "a,b/kwh,2012-01-31T09:30:00Z\n"
    path = written(tmp_path, text)
    ids = [row.id for row in rows(path, layout()) if isinstance(row, Row)]
    assert ids == [b"usage.csv:1", b"usage.csv:2"]
    ids = [row.id for row in rows(path, layout(id_columns=("customer", "meter"))) if isinstance(row, Row)]
    assert ids == [b"a%2Fb/kwh", b"a/b%2Fkwh"]
    first, second = (row.id for row in rows(path, layout(file_name="f" * 200)) if isinstance(row, Row))
    assert len(first) == len(second) == 64
    assert first != second


ZONE = ZoneInfo("Europe/London")
TIMES = [
    ("2012-07-01T00:30:00", datetime(2012, 6, 30, 23, 30, tzinfo=UTC)),
    ("2012-01-01 00:30:00.25", datetime(2012, 1, 1, 0, 30, 0, 250_000, tzinfo=UTC)),
    ("2012-07-01T00:30:00-02:00", datetime(2012, 7, 1, 2, 30, tzinfo=UTC)),
    ("2012-03-25T01:30:00", "there is no such time in Europe/London: clocks were put forward"),
    ("2012-10-28T01:30:00", "is twice in Europe/London, as clocks were put back: it must tell its offset"),
    ("2012-10-28T01:30:00+01:00", datetime(2012, 10, 28, 0, 30, tzinfo=UTC)),
    ("yesterday", "must be a time like 2012-01-31T09:30:00Z, not 'yesterday'"),
    ("0001-01-01T00:00:00+14:00", "must lie in the years 1970 to 9999"),
    ("9999-12-31T23:59:59-14:00", "must lie in the years 1970 to 9999"),
    ("", "is empty"),
]


@pytest.mark.parametrize(("text", "expected"), TIMES, ids=[text or "none" for text, _ in TIMES])
def test_times_without_offset_are_of_the_zone(tmp_path: Path, text: str, expected: datetime | str) -> None:
    """Half an hour of winter is not half an hour of summer, and one that is there twice is nobody's guess."""
    path = written(tmp_path, f"id,customer,meter,time\n1,ann,kwh,{text}\n")
    (found,) = rows(path, layout(time_zone=ZONE))
    if isinstance(expected, datetime):
        assert isinstance(found, Row), found
        assert instant(found) == expected
    else:
        assert not isinstance(found, Row)
        assert found[:2] == (2, "time")
        assert found[2].startswith(expected.partition(" 1970")[0])


def test_a_time_without_offset_needs_a_zone(tmp_path: Path) -> None:
    """In whichever file: Parquet knows times without a zone, too."""
    reason = "does not tell its offset: say --time-zone"
    path = written(tmp_path, HEADER + ROW.replace("Z", ""))
    assert rows(path, layout()) == [(2, "time", reason)]
    columns = {"customer": ["a"], "meter": ["b"], "time": pyarrow.array([datetime(2012, 7, 1, 0, 30)])}  # noqa: DTZ001 # on purpose
    path = table(tmp_path / "usage.parquet", columns)
    assert rows(path, layout()) == [(1, "time", reason)]
    assert instant(one(path, layout(time_zone=ZONE))) == datetime(2012, 6, 30, 23, 30, tzinfo=UTC)


VALUES = [
    ("0", Decimal(0)),
    ("-0.000", Decimal(0)),
    ("+1.50", Decimal("1.5")),
    ("1e3", Decimal(1000)),
    ("5E-12", Decimal("0.000000000005")),
    ("9" * 26 + "." + "9" * 12, Decimal("9" * 26 + "." + "9" * 12)),
    ("-" + "9" * 26, Decimal("-" + "9" * 26)),
    ("1" + "0" * 26, "must have at most 12 decimals and 26 digits before them"),
    ("1e99", "must have at most 12 decimals and 26 digits before them"),
    ("0.0000000000001", "must have at most 12 decimals and 26 digits before them"),
    ("", "is empty"),
    ("NaN", "must be a number, such as 12.50, not 'NaN'"),
    ("1_000", "must be a number, such as 12.50, not '1_000'"),
    ("٣", "must be a number, such as 12.50, not '\\u0663'"),
    ("1e999999999", "must be a number, such as 12.50, not '1e999999999'"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES, ids=[text[:20] or "none" for text, _ in VALUES])
def test_values_are_exact(tmp_path: Path, text: str, expected: Decimal | str) -> None:
    """Not a digit more or less than written."""
    (found,) = rows(written(tmp_path, HEADER + f"1,ann,kwh,2012-01-31T09:30:00Z,{text}\n"), layout())
    if isinstance(expected, Decimal):
        assert isinstance(found, Row), found
        assert found.value == expected
        assert found.decimals <= 12
    else:
        assert found == (2, "value", expected)


def test_rows_that_cannot_be_read_harm_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told with its line; a quote that is not closed takes what follows with it, and is told as well."""
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 200)
    good = ROW.encode()
    lines = [
        HEADER.encode(), good, b"2,ann\n", good, b'"3"x,ann,kwh,2012-01-31T09:30:00Z,1\n', good,
        b"\xff,ann,kwh,2012-01-31T09:30:00Z,1\n", good, b"x" * 10_000 + b"\n", good,
        b'"4\n5",,kwh,2012-01-31T09:30:00Z,1\n', good.rstrip(b"\n"),
    ]  # fmt: skip
    found = rows(written(tmp_path, b"\xef\xbb\xbf" + b"".join(lines)), layout())
    told = [each for each in found if not isinstance(each, Row)]
    assert [(line, column) for line, column, _ in told] == [(3, ""), (5, ""), (7, "id"), (9, ""), (11, "customer")]
    assert [reason.partition(":")[0] for *_, reason in told] == [
        "must have 5 fields, as the header has, not 2", "is not CSV", "is not UTF-8", "is longer than 200 bytes",
        "is empty",
    ]  # fmt: skip
    assert sum(isinstance(each, Row) for each in found) == 6


JSON = [
    ('{"customer": "ann"', "is not a usage event in JSON"),
    ("[]", "it must be an object"),
    ('{"value": NaN}', "NaN is not a number"),
    ('{"value": true, "customer": "a", "meter": "b", "time": "2012-01-31T09:30:00Z"}', "must be a number"),
    ('{"value": [1]}', "must be a text or a number"),
    ('{"dimensions": {"a": {}}}', "must be a text or a number"),
    ('{"id": "1", "id": "2"}', "a name is there twice"),
    ("[" * 100_000, "is not a usage event in JSON"),
    ('{"customer": "\\ud800", "meter": "b", "time": "2012-01-31T09:30:00Z"}', "is not UTF-8"),
    ('{"meter": "b", "time": "2012-01-31T09:30:00Z"}', "is missing"),
    ('{"customer": "a", "meter": "b", "time": "2012-01-31T09:30:00Z", "Big": 1}', "is no name for a dimension"),
    ('{"customer": "a", "meter": "b", "time": "2012-01-31T09:30:00Z", "r": 1, "dimensions": {"r": 2}}', "told twice"),
    ('{"value": ' + "9" * 5_000 + ', "customer": "a", "meter": "b", "time": "2012-01-31T09:30:00Z"}', "a number"),
]


@pytest.mark.parametrize(("text", "reason"), JSON, ids=[str(n) for n in range(len(JSON))])
def test_lines_of_json_that_are_no_events_are_told(tmp_path: Path, text: str, reason: str) -> None:
    """Whatever the line says, the next one is read."""
    good = '{"customer": "a", "meter": "b", "time": "2012-01-31T09:30:00Z"}'
    bad, after = rows(written(tmp_path, f"{text}\n{good}\n", "usage.jsonl"), layout())
    assert not isinstance(bad, Row)
    assert bad[0] == 1
    assert reason in bad[2]
    assert isinstance(after, Row), after
    assert (after.id, after.value) == (b"usage.csv:2", Decimal(1))


UNUSABLE: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "it is empty"),
    ("\n\n", {}, "it is empty"),
    ("id,customer,time\n", {}, "there is no column meter: say --column meter=COLUMN, or --meter for all rows"),
    ("customer,meter\n", {}, "there is no column time: say --column time=COLUMN"),
    (HEADER, {"columns": {"time": "at"}}, "there is no column 'at' for time"),
    (HEADER, {"id_columns": ("x",)}, "there is no column 'x'"),
    (HEADER.replace("id", "value"), {}, "column 'value' is there twice"),
    (HEADER.replace("id", "A b"), {}, "column 'A b' is no name for a dimension"),
    (HEADER.replace("id", "a,dimensions.a"), {}, "there are several columns for dimensions.a"),
    ("".join(f"d{n}," for n in range(17)) + HEADER, {}, "more than 16 columns would be dimensions"),
]


@pytest.mark.parametrize(("text", "changes", "reason"), UNUSABLE, ids=[reason for *_, reason in UNUSABLE])
def test_a_file_that_cannot_be_meant_is_refused_whole(
    tmp_path: Path, text: str, changes: dict[str, Any], reason: str
) -> None:
    """Before anything is sent, and with what to say instead."""
    with pytest.raises(Unusable) as refused:
        reader_of(written(tmp_path, text), layout(**changes))
    assert reason in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """By their name, their absence, or what is in them."""
    for path, reason in (
        (written(tmp_path, "x", "usage.xlsx"), "it must be one of .csv"),
        (tmp_path / "nothing.csv", "it cannot be read: No such file"),
        (tmp_path / "nothing.jsonl", "it cannot be read: No such file"),
        (tmp_path / "nothing.parquet", "it cannot be read"),
        (written(tmp_path, "x", "usage.parquet"), "it is not Parquet"),
        (table(tmp_path / "a.parquet", {"customer": [["x"]], "meter": ["m"], "time": ["t"]}), "'customer' is a list"),
    ):
        with pytest.raises(Unusable) as refused:
            reader_of(path, layout())
        assert reason in str(refused.value)


def test_parquet_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 50 MB that few need."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unusable, match="pip install pyarrow"):
        reader_of(written(tmp_path, "x", "usage.parquet"), layout())


def _files(folder: Path) -> Sequence[Path]:
    count = 60
    lines = [
        f'{n},"a\nb",kwh,2012-01-31T09:30:00Z,{n}.5\n' if n % 7 == 0 else f"{n},é,kwh,2012-01-31T09:30:00Z,1\n"
        for n in range(count)
    ]
    objects = [
        f'{{"id": "{n}", "customer": "é", "meter": "kwh", "time": "2012-01-31T09:30:00Z"}}\n' for n in range(count)
    ]
    columns = {
        "id": list(range(count)), "customer": ["é"] * count, "meter": ["kwh"] * count,
        "time": ["2012-01-31T09:30:00Z"] * count,
    }  # fmt: skip
    return (
        written(folder, HEADER + "\n" + "".join(lines)),
        written(folder, "\n".join(objects), "usage.jsonl"),
        table(folder / "usage.parquet", columns, group=7),
    )


def test_every_place_is_one_to_go_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same rows, lines and numbers as in one go: made-up ids depend on them."""
    monkeypatch.setattr(reading, "PIECE_ROWS", 5)
    for path in _files(tmp_path):
        whole = list(reader_of(path, layout()).records(Place()))
        assert [record.end.number for record in whole] == list(range(1, 61))
        for n in range(60):
            assert list(reader_of(path, layout()).records(whole[n].end)) == whole[n + 1 :], (path, n)


def test_many_rows_take_little_memory(tmp_path: Path) -> None:
    """One is read when it is asked for, however long the file is."""
    path = written(tmp_path, HEADER + ROW * 200_000)
    records = reader_of(path, layout()).records(Place())
    first = next(records)
    assert first.end.offset == len(HEADER) + len(ROW)


def test_columns_say_each_thing_once(tmp_path: Path) -> None:
    """What repeats is told by its place, and numbers have the decimals of the finest."""
    text = "id,customer,meter,time,value,region\n" + "".join(
        f"{n},ann,kwh,2012-01-31T09:30:00Z,{value},{region}\n"
        for n, (value, region) in enumerate([("1", "eu"), ("2.25", ""), ("-3.5", "eu")])
    )
    found = [row for row in rows(written(tmp_path, text), layout()) if isinstance(row, Row)]
    columns = columns_of(found, decimals=2)
    assert list(columns.strings) == ["import", "ann", "kwh"]
    assert list(columns.units) == [100, 225, -350]
    assert [dict(each.dimensions) for each in columns.dimension_sets] == [{"region": "eu"}]
    assert list(columns.dimensions) == [1, 0, 1]
