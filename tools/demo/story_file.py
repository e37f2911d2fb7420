"""Knows how story.yaml is written: when the clock begins, how far it goes, and how usage is read and sent."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Final

from common.document import Value
from tools.demo.example import Story, UsageFile

FIELDS: Final = ("customer", "meter", "time", "value", "id", "source", "send_time", "repeat")
DEFAULT_COLUMNS: Final = {name: name for name in FIELDS}
SOURCE: Final = "usage"
"""What usage events say they come from, unless the file says otherwise: one name, so that a file that is renamed or
copied is still known."""
MONTHS_MAX: Final = 120


def parse_story(document: Value, folder: Path, *, customers: Collection[str], meters: Collection[str]) -> Story:
    """Files in `usage/` that the story does not mention are read in the usual shape."""
    fields = document.fields(required=["start", "months"], optional=["time_zone", "closing_days", "usage"])
    zone = fields["time_zone"].time_zone() if "time_zone" in fields else "UTC"
    start = fields["start"].moment(zone)
    if start.microsecond % 1_000:
        raise fields["start"].fault("must be a whole millisecond: it becomes part of the seller's id")
    told = fields["usage"].each(lambda each: _usage_file(each, customers, meters)) if "usage" in fields else []
    found = sorted(path.relative_to(folder).as_posix() for path in (folder / "usage").glob("*.csv"))
    mentioned = {each.file for each in told}
    usual = [_usual(file) for file in found if file not in mentioned]
    return Story(
        start=start,
        time_zone=zone,
        months=fields["months"].whole(0, MONTHS_MAX),
        closing_days=fields["closing_days"].whole(0, 366) if "closing_days" in fields else 3,
        usage=(*told, *usual),
    )


def _usual(file: str) -> UsageFile:
    return UsageFile(file=file, columns=DEFAULT_COLUMNS, fixed={"source": SOURCE}, late_by=timedelta(), repeat=1)


def _usage_file(value: Value, customers: Collection[str], meters: Collection[str]) -> UsageFile:
    fields = value.fields(
        required=["file"], optional=["columns", "customer", "meter", "source", "late_by_days", "repeat"]
    )
    columns = dict(DEFAULT_COLUMNS)
    if "columns" in fields:
        columns |= {name: each.text() for name, each in fields["columns"].fields(optional=FIELDS).items()}
    fixed = {"source": SOURCE}
    if "customer" in fields:
        fixed["customer"] = fields["customer"].reference(customers, "customer")
    if "meter" in fields:
        fixed["meter"] = fields["meter"].reference(meters, "meter")
    if "source" in fields:
        fixed["source"] = fields["source"].text(max_length=128)
    return UsageFile(
        file=fields["file"].text(),
        columns=columns,
        fixed=fixed,
        late_by=timedelta(days=fields["late_by_days"].whole(0, 3_660) if "late_by_days" in fields else 0),
        repeat=fields["repeat"].whole(1, 100) if "repeat" in fields else 1,
    )
