"""Whatever is wrong with a folder is said with file, line, column and reason, before anything is sent."""

from __future__ import annotations

import contextlib
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.document import Malformed
from saldo.catalog.v1 import plan_pb2
from saldo.metering.v1.meter_pb2 import Meter
from tools.demo.folder import Reading, fingerprint, read_folder
from tools.demo.requests import create_subscription, usage_event
from tools.demo.usage_file import split
from tools.meters import create_meter
from tools.stack import CHECKOUT

LONDON = CHECKOUT / "examples" / "london"

SELLER = "display_name: Acme\naddress: {region_code: GB}\n"
CATALOG = """\
products:
  - {code: power, display_name: Power}
meters:
  - {code: power, aggregation: SUM}
plans:
  - code: home
    display_name: Home
    prices:
      - {code: power, product: power, currency: GBP, meter: power, per_unit: 0.14228}
      - {code: base, product: power, currency: GBP, flat: 0.10}
"""
CUSTOMERS = """\
customers:
  - id: c1
    display_name: One
    currency: GBP
    time_zone: Europe/London
    subscriptions:
      - {plan: home, start: 2012-01-01}
"""
STORY = "start: 2012-01-01\nmonths: 1\n"
USAGE = "customer,meter,time,value,id\nc1,power,2012-01-01T00:30:00Z,1.3150001,e1\n"
FILES = {
    "seller.yaml": SELLER,
    "catalog.yaml": CATALOG,
    "customers.yaml": CUSTOMERS,
    "story.yaml": STORY,
    "usage/power.csv": USAGE,
}


def write(folder: Path, changes: dict[str, str | bytes | None]) -> Path:
    (folder / "usage").mkdir(exist_ok=True)
    for name, content in (FILES | changes).items():
        if isinstance(content, str):
            (folder / name).write_bytes(content.encode())
        elif content is not None:
            (folder / name).write_bytes(content)
    return folder


def read(folder: Path, **changes: str | bytes | None) -> Reading:
    return read_folder(write(folder, {_NAMES[name]: content for name, content in changes.items()}))


_NAMES = {
    "seller": "seller.yaml",
    "catalog": "catalog.yaml",
    "customers": "customers.yaml",
    "story": "story.yaml",
    "usage": "usage/power.csv",
}


def faults(folder: Path, **changes: str | bytes | None) -> list[str]:
    try:
        return [str(fault) for fault in read(folder, **changes).faults]
    except Malformed as error:
        return [str(fault) for fault in error.faults]


def test_a_sound_folder_is_read_exactly(tmp_path: Path) -> None:
    """Money never passes through a float: what is written is what is sent."""
    reading = read(tmp_path)
    assert reading.faults == ()
    assert reading.example.catalog.document == CATALOG
    assert reading.example.rows[0].value == Decimal("1.3150001")


def test_a_trial_is_asked_for_as_it_is_written(tmp_path: Path) -> None:
    """No days are no trial; nothing said leaves it to the plan."""
    for written, days in ((", trial_days: 14", 14), (", trial_days: 0", 0), ("", None)):
        document = CUSTOMERS.replace("2012-01-01}", f"2012-01-01{written}}}")
        [subscription] = read(tmp_path, customers=document).example.customers[0].subscriptions
        request = create_subscription(subscription, number=0, customer_id="cus_1", plan=plan_pb2.Plan(), negotiated={})
        assert request.HasField("trial_days") == (days is not None)
        assert request.trial_days == (days or 0)


def test_the_shipped_example_is_sound() -> None:
    """What a newcomer runs first must not greet him with faults."""
    reading = read_folder(LONDON)
    assert reading.faults == ()
    assert len(reading.example.rows) == 8_736 + 182 + 182


MALFORMED = {
    "no seller": ({"seller": None}, "seller.yaml:1:1: there is no such file"),
    "an empty file": ({"seller": ""}, "seller.yaml:1:1: is empty"),
    "only a comment": ({"seller": "# nothing\n"}, "seller.yaml:1:1: is empty"),
    "a text for a mapping": ({"seller": "Acme\n"}, "seller.yaml:1:1: must be keys with values, not 'Acme'"),
    "bad indentation": (
        {"seller": "display_name: Acme\n   tax_id: 1\n"},
        "seller.yaml:2:10: not YAML: mapping values are not allowed",
    ),
    "an open bracket": ({"story": "start: [2012-01-01\nmonths: 1\n"}, "story.yaml:2:7: not YAML"),
    "a tab": ({"seller": "display_name: Acme\naddress:\n\tregion_code: GB\n"}, "seller.yaml:3:1: not YAML"),
    "two documents": ({"seller": SELLER + "---\nx: 1\n"}, "seller.yaml:3:1: not YAML"),
    "a NUL": ({"seller": "display_name: A\0me\n"}, "seller.yaml:1:16: not YAML: control characters are not allowed"),
    "not UTF-8": ({"seller": b"display_name: Caf\xe9\n"}, "seller.yaml:1:18: is not UTF-8: byte 0xe9"),
    "UTF-16": ({"seller": SELLER.encode("utf-16")}, "seller.yaml:1:1: is not UTF-8: byte 0xff"),
    "an unknown key": (
        {"seller": SELLER + "colour: red\n"},
        "seller.yaml:3:1: unknown key 'colour'; known are display_name, address",
    ),
    "a key twice": ({"seller": SELLER + "display_name: B\n"}, "seller.yaml:3:1: display_name is there twice"),
    "a missing key": ({"seller": "address: {region_code: GB}\n"}, "seller.yaml:1:1: display_name is missing"),
    "an empty value": (
        {"seller": "display_name:\naddress: {region_code: GB}\n"},
        "seller.yaml:1:14: must be text, not empty",
    ),
    "a list for a text": (
        {"seller": "display_name: [a]\naddress: {region_code: GB}\n"},
        "seller.yaml:1:15: must be text, not a list",
    ),
    "a country": ({"seller": "display_name: A\naddress: {region_code: G1}\n"}, "seller.yaml:2:24: must be a country's"),
    "a number prefix": (
        {"seller": SELLER + "invoice_number_prefix: acme\n"},
        "seller.yaml:3:24: must be 1 to 16 of A-Z, 0-9 and -",
    ),
    "a token of a simulated gateway": (
        {"customers": CUSTOMERS + "    payment_methods: [{token: visa}]\n"},
        "customers.yaml:8:31: must be sim: and steps like ok",
    ),
    "a trial for ever": (
        {"customers": CUSTOMERS.replace("2012-01-01}", "2012-01-01, trial_days: 731}")},
        "customers.yaml:7:53: must be a whole number from 0 to 730",
    ),
    "an unknown meter": (
        {"catalog": CATALOG.replace("meter: power", "meter: gas")},
        "catalog.yaml:9:61: there is no meter 'gas'",
    ),
    "an unknown aggregation": (
        {"catalog": CATALOG.replace("SUM", "MEDIAN")},
        "catalog.yaml:4:32: must be one of SUM, COUNT, MAX, MIN, AVERAGE, LATEST, UNIQUE_COUNT, WEIGHTED_SUM,"
        " PERCENTILE, SUM_OF_MAX, not 'MEDIAN'",
    ),
    "unique values of nothing": (
        {"catalog": CATALOG.replace("SUM", "UNIQUE_COUNT")},
        "catalog.yaml:4:5: unique_dimension is missing",
    ),
    "a sum of unique values": (
        {"catalog": CATALOG.replace("SUM", "SUM, unique_dimension: device")},
        "catalog.yaml:4:55: must be absent: only UNIQUE_COUNT",
    ),
    "unique values of a bad name": (
        {"catalog": CATALOG.replace("SUM", "UNIQUE_COUNT, unique_dimension: De vice")},
        "catalog.yaml:4:64: must be 1 to 64 of a-z",
    ),
    "an unknown plan": (
        {"customers": CUSTOMERS.replace("plan: home", "plan: house")},
        "customers.yaml:7:16: there is no plan 'house'",
    ),
    "a currency without a price": (
        {"customers": CUSTOMERS.replace("GBP", "EUR")},
        "customers.yaml:7:16: plan home has no price in EUR",
    ),
    "a time zone": (
        {"customers": CUSTOMERS.replace("Europe/London", "London")},
        "customers.yaml:5:16: must be the name",
    ),
    "no such day": (
        {"customers": CUSTOMERS.replace("2012-01-01", "2012-02-30")},
        "customers.yaml:7:29: 2012-02-30 is no date",
    ),
    "a date of another land": (
        {"customers": CUSTOMERS.replace("2012-01-01", "01.01.2012")},
        "customers.yaml:7:29: must be a date like",
    ),
    "a year long ago": (
        {"customers": CUSTOMERS.replace("2012-01-01", "1066-10-14")},
        "customers.yaml:7:29: must lie in",
    ),
    "a metered quantity": (
        {"customers": CUSTOMERS.replace("2012-01-01}", "2012-01-01, items: [{price: power, quantity: 2}]}")},
        "customers.yaml:7:74: must be absent",
    ),
    "an unknown price": (
        {"customers": CUSTOMERS.replace("2012-01-01}", "2012-01-01, items: [{price: gas}]}")},
        "customers.yaml:7:57: there is no price of the plan in the customer's currency 'gas'",
    ),
    "a number that is none": ({"story": "start: 2012-01-01\nmonths: six\n"}, "story.yaml:2:9: must be a whole number"),
    "a number with a point": ({"story": "start: 2012-01-01\nmonths: 1.5\n"}, "story.yaml:2:9: must be a whole number"),
    "too many months": (
        {"story": "start: 2012-01-01\nmonths: 121\n"},
        "story.yaml:2:9: must be a whole number from 0 to 120",
    ),
    "a file that is not there": (
        {"story": STORY + "usage: [{file: usage/gas.csv}]\n"},
        "usage/gas.csv:1:1: there is no such file",
    ),
    "a file elsewhere": (
        {"story": STORY + "usage: [{file: ../../secret.csv}]\n"},
        "../../secret.csv:1:1: lies outside of the folder",
    ),
    "an empty csv": ({"usage": ""}, "usage/power.csv:1:1: is empty: it must have a header"),
    "no column": (
        {"usage": USAGE.replace("customer,", "client,")},
        "usage/power.csv:1:1: there is no column 'customer' for the customer",
    ),
    "a dimension of a bad name": (
        {"usage": USAGE.replace("value,id", "value,id,dimensions.Region").replace("e1", "e1,eu")},
        "usage/power.csv:1:30: dimensions. must be followed by 1 to 64 of a-z",
    ),
    "too many dimensions": (
        {"usage": "customer,meter,time,value," + ",".join(f"dimensions.d{n}" for n in range(17))},
        "usage/power.csv:1:257: there are more than 16 dimensions",
    ),
    "a column twice": ({"usage": USAGE.replace("value", "time")}, "usage/power.csv:1:21: column 'time' is there twice"),
}


@pytest.mark.parametrize("case", MALFORMED.values(), ids=[name.replace(" ", "-") for name in MALFORMED])
def test_what_is_malformed_is_named_with_its_place(
    tmp_path: Path, case: tuple[dict[str, str | bytes | None], str]
) -> None:
    """An editor can jump there, and the reason says what to write instead."""
    changes, wanted = case
    found = faults(tmp_path, **changes)
    assert found
    assert any(fault.startswith(wanted) for fault in found), "\n".join(found)


ROW = "c1,power,2012-01-01T00:30:00Z,1.3150001,e1"
BAD_ROWS = {
    "a customer": (ROW.replace("c1", "c2"), 1, "there is no customer 'c2'"),
    "a meter": (ROW.replace("power", "gas"), 4, "there is no meter 'gas'"),
    "a time without offset": (ROW.replace("Z", ""), 10, "must be an instant like"),
    "a date": (ROW.replace("T00:30:00Z", ""), 10, "must be an instant like"),
    "no such day": (ROW.replace("01-01T", "02-30T"), 10, "must be an instant like"),
    "a decimal comma": (ROW.replace("1.3150001", '"1,3150001"'), 31, "must be a decimal number"),
    "no value": (ROW.replace("1.3150001", ""), 31, "must be a decimal number"),
    "not a number": (ROW.replace("1.3150001", "NaN"), 31, "must be a decimal number"),
    "a huge exponent": (ROW.replace("1.3150001", "1e999"), 31, "must have at most 38 digits"),
    "a number of a million digits": (ROW.replace("1.3150001", "1" * 1_000_000), 31, "must be a decimal number"),
    "a fullwidth digit": (ROW.replace("1.3150001", "１"), 31, "must be a decimal number"),
    "no id": (ROW.replace("e1", ""), 41, "is required"),
    "a long id": (ROW.replace("e1", "e" * 129), 41, "must have at most 128 characters"),
    "a NUL": (ROW.replace("e1", "e\0"), 41, "must not contain control characters"),
    "a NUL in the value": (ROW.replace("1.3150001", "1\0"), 31, "must be a decimal number"),
    "too many fields": (ROW + ",x", 41, "must have 5 fields, as the header has, not 6"),
    "too few fields": ("c1,power", 4, "must have 5 fields, as the header has, not 2"),
    "an open quote": (ROW.replace("c1", '"c1'), 1, "the quote is not closed in this line"),
    "more after a quote": (ROW.replace("c1", '"c1"x'), 5, "there is more after the closing quote"),
    "the same id with other content": (
        ROW.replace("1.3150001", "2"),
        1,
        "id 'e1' of source 'usage' is at usage/power.csv:2",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS.values(), ids=[name.replace(" ", "-") for name in BAD_ROWS])
def test_a_malformed_row_is_named_and_the_others_are_kept(tmp_path: Path, case: tuple[str, int, str]) -> None:
    """A bad row harms no other, in whichever line it is."""
    row, column, reason = case
    reading = read(tmp_path, usage=f"{USAGE}{row}\nc1,power,2012-01-01T01:00:00Z,2,e2\n")
    (fault,) = reading.faults
    assert str(fault).startswith(f"usage/power.csv:3:{column}: {reason}"), str(fault)
    assert [each.id for each in reading.example.rows] == ["e1", "e2"]


@pytest.mark.parametrize(
    "usage",
    [
        "\ufeff" + USAGE,
        USAGE.replace("\n", "\r\n"),
        USAGE.replace(",", ";"),
        USAGE.replace(",", "\t"),
        USAGE + "\n\n",
        USAGE.rstrip("\n"),
        USAGE.replace("c1,", '"c1" ,').replace('"c1" ,', '"c1",'),
        USAGE.replace("c1,power", " c1 , power "),
        USAGE.replace("00:30:00Z", "01:30:00+01:00"),
        USAGE.replace("customer,", "comment,customer,").replace("c1,", "x,c1,"),
        USAGE + ROW + "\n",
    ],
    ids=["bom", "crlf", "semicolons", "tabs", "blanks", "no-end", "quotes", "spaces", "offset", "extra", "repeat"],
)
def test_files_as_other_programs_write_them_say_the_same(tmp_path: Path, usage: str) -> None:
    """Spreadsheets and databases export the same rows in many shapes."""
    reading = read(tmp_path, usage=usage)
    assert reading.faults == ()
    row = reading.example.rows[0]
    assert (row.customer, row.meter, row.value, row.id) == ("c1", "power", Decimal("1.3150001"), "e1")
    assert row.time.isoformat() == "2012-01-01T00:30:00+00:00"


def test_a_counted_event_needs_no_value(tmp_path: Path) -> None:
    """A COUNT meter looks at no values, also in a file whose other meters need theirs."""
    counted = CATALOG.replace("aggregation: SUM", "aggregation: COUNT")
    reading = read(tmp_path, catalog=counted, usage=USAGE.replace("1.3150001", ""))
    assert reading.faults == ()
    assert reading.example.rows[0].value == Decimal(1)


def test_columns_of_dimensions_tell_usage_apart(tmp_path: Path) -> None:
    """A matrix is priced by them; an empty cell names nothing, and other columns still say nothing."""
    usage = (
        "customer,dimensions.region,meter,time,value,id,dimensions.model,comment\n"
        'c1,eu,power,2012-01-01T00:30:00Z,1,e1,"a, b",x\n'
        "c1,,power,2012-01-01T00:30:00Z,1,e2,a,x\n"
        "c1,,power,2012-01-01T00:30:00Z,1,e3,,x\n"
    )
    reading = read(tmp_path, usage=usage)
    assert reading.faults == ()
    sent = [dict(usage_event(row).dimensions) for row in reading.example.rows]
    assert sent == [{"region": "eu", "model": "a, b"}, {"model": "a"}, {}]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [("x" * 129, "must have at most 128 characters"), ("a\0b", "must not contain control characters")],
    ids=["long", "control"],
)
def test_a_bad_dimension_is_named_with_its_place(tmp_path: Path, cell: str, reason: str) -> None:
    """Metering would refuse it, in the middle of the story."""
    usage = f"customer,meter,time,value,id,dimensions.region\nc1,power,2012-01-01T00:30:00Z,1,e1,{cell}\n"
    assert faults(tmp_path, usage=usage) == [f"usage/power.csv:2:36: {reason}"]


def test_the_same_id_with_another_dimension_is_a_mistake(tmp_path: Path) -> None:
    """Metering would take it for a repeat, and the second region would never be billed."""
    rows = "c1,power,2012-01-01T00:30:00Z,1,e1,eu\n" * 2 + "c1,power,2012-01-01T00:30:00Z,1,e1,us\n"
    (fault,) = faults(tmp_path, usage="customer,meter,time,value,id,dimensions.region\n" + rows)
    assert fault.startswith("usage/power.csv:4:1: id 'e1' of source 'usage' is at usage/power.csv:2 with other content")


def test_unique_values_are_counted_of_a_dimension_and_need_no_value(tmp_path: Path) -> None:
    """What is counted is who used it, not how much."""
    catalog = CATALOG.replace("SUM", "UNIQUE_COUNT, unique_dimension: device")
    usage = "customer,meter,time,value,id,dimensions.device\nc1,power,2012-01-01T00:30:00Z,,e1,one\n"
    reading = read(tmp_path, catalog=catalog, usage=usage)
    assert reading.faults == ()
    (meter,) = map(create_meter, reading.example.catalog.meters)
    assert (meter.aggregation, meter.unique_dimension) == (Meter.UNIQUE_COUNT, "device")
    assert reading.example.rows[0].value == Decimal(1)


def test_readings_without_ids_are_known_by_whose_what_and_when(tmp_path: Path) -> None:
    """So that a file as it was published can be sent twice and counted once."""
    published = "household,at,kwh\nc1,2012-01-01T00:00:00Z,1\nc1,2012-01-01T00:30:00Z,2\n"
    story = (
        STORY
        + "usage:\n- file: usage/power.csv\n  meter: power\n"
        + ("  columns: {customer: household, time: at, value: kwh}\n  late_by_days: 2\n  repeat: 2\n")
    )
    first, second = read(tmp_path, usage=published, story=story).example.rows
    assert first.id == "c1/power/2012-01-01T00:00:00Z" != second.id
    assert (first.send_time - first.time).days == 2
    assert first.repeat == 2


def test_a_row_is_not_sent_before_it_happens(tmp_path: Path) -> None:
    """Metering would refuse it then, in the middle of the story."""
    usage = "customer,meter,time,value,id,send_time\nc1,power,2012-01-02T00:00:00Z,1,e,2012-01-01T00:00:00Z\n"
    assert faults(tmp_path, usage=usage) == ["usage/power.csv:2:35: must not be before the time at which it happens"]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Whoever corrects a folder does not want to be told one mistake at a time."""
    found = faults(
        tmp_path,
        seller="display_name: 1\n",
        customers=CUSTOMERS.replace("Europe/London", "Nowhere") + "  - {id: c1}\n",
    )
    assert {fault.split(":")[0] for fault in found} == {"seller.yaml", "customers.yaml"}
    assert len(found) >= 4


def test_adding_usage_does_not_make_another_seller(tmp_path: Path) -> None:
    """A corrected file of usage is loaded into the same seller; another catalog is another story."""
    before = fingerprint(write(tmp_path, {}))
    assert fingerprint(write(tmp_path, {"usage/power.csv": USAGE + ROW})) == before
    assert fingerprint(write(tmp_path, {"story.yaml": STORY.replace("months: 1", "months: 2")})) != before


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=8), min_size=1))
def test_quoted_fields_come_back_as_they_were(fields: list[str]) -> None:
    """A quote or a delimiter in an id must not become another id."""
    line = ";".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert [cell.text for cell in split(line, ";", "x", 1)] == fields


@given(st.binary(max_size=300), st.sampled_from(["seller.yaml", "catalog.yaml", "usage/power.csv"]))
def test_no_file_of_any_content_is_worse_than_malformed(content: bytes, file: str) -> None:
    """Garbage is refused in words, never with a stack trace."""
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(Malformed):
        read_folder(write(Path(name), {file: content}))
