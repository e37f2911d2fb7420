"""Compares the log with its copy, by seller and day: `python -m metering.clickhouse.comparing [SELLER …]`.

With the settings of the service. Ends with 1 when anything is different. What was archived is in the copy only, and its
days are told and not compared.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.db import Database
from metering.clickhouse.connection import Connection
from metering.log import copies
from metering.log.copies import DayRows

SELLERS_TOGETHER: Final = 1_000
NOTHING: Final = DayRows()
_EPOCH: Final = date(1970, 1, 1)
_DAY_MICROS: Final = 86_400_000_000

Days = dict[tuple[str, date], DayRows]


class Settings(BaseSettings):
    """Those of the service that are needed here."""

    model_config = SettingsConfigDict(env_prefix="SALDO_", extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr
    clickhouse_url: SecretStr


def main() -> int:
    settings = Settings.model_validate({})
    lines, is_same = asyncio.run(
        compare(settings.database_url.get_secret_value(), settings.clickhouse_url.get_secret_value(), sys.argv[1:])
    )
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0 if is_same else 1


async def compare(database_url: str, clickhouse_url: str, sellers: Sequence[str] = ()) -> tuple[list[str], bool]:
    """What is to be told, and whether all that can be compared is the same. Without sellers, of all of them."""
    database, connection = Database(database_url, service="metering", pool_size=1), Connection(clickhouse_url)
    try:
        async with database.session() as session:
            found = await copies.copied_positions(session)
            through = {seller_id: found.get(seller_id, 0) for seller_id in sellers or found}
            # First the copy: what is archived meanwhile is known when the days are told.
            copied = await _copied_days(connection, through)
            logged: Days = {}
            for leaf in await copies.leaves_to_compare(session):
                for day, rows in (await copies.leaf_days(session, leaf, through)).items():
                    logged[day] = logged.get(day, NOTHING).plus(rows)
            archived = {
                (seller_id, first + timedelta(days=n))
                for seller_id, first, last in await copies.archived_days(session)
                for n in range((last - first).days + 1)
            }
    finally:
        await connection.close()
        await database.close()
    return _told(logged, copied, archived)


def _told(logged: Days, copied: Days, archived: set[tuple[str, date]]) -> tuple[list[str], bool]:
    days = sorted(logged.keys() | copied.keys())
    different = [day for day in days if day not in archived and logged.get(day) != copied.get(day)]
    same = [day for day in days if day not in archived and logged.get(day) == copied.get(day)]
    lines = [
        f"{seller_id} {day}: DIFFERENT, {logged.get((seller_id, day), NOTHING).row_count} rows in the log,"
        f" {copied.get((seller_id, day), NOTHING).row_count} in the copy"
        for seller_id, day in different
    ]
    lines += [f"{seller_id} {day}: ARCHIVED" for seller_id, day in days if (seller_id, day) in archived]
    rows = sum(logged[day].row_count for day in same)
    lines.append(f"{len(same)} days with {rows} rows are the same, {len(different)} days are different")
    return lines, not different


async def _copied_days(connection: Connection, through: dict[str, int]) -> Days:
    sellers = sorted(through)
    found: Days = {}
    for first in range(0, len(sellers), SELLERS_TOGETHER):
        some = sellers[first : first + SELLERS_TOGETHER]
        asked = {"sellers": some, "positions": [through[seller_id] for seller_id in some]}
        for seller_id, day, row_count, digest in await connection.rows(_DAYS, asked):
            found[seller_id, _EPOCH + timedelta(days=day)] = DayRows(row_count, digest)
    return found


# As `log.copies` has it.
_DAYS: Final = f"""
SELECT toString(seller_id), intDiv(time, {_DAY_MICROS}) AS day, count() AS row_count,
       sum(toInt256(reinterpretAsInt64(reverse(substring(MD5(arrayStringConcat([
           toString(position), toString(stream), toString(source), event_id, toString(time), toString(value),
           toString(corrects), toString(version),
           arrayStringConcat(arrayMap(k -> concat(k, '=', dimensions[k]), arraySort(mapKeys(dimensions))), char(30))
       ], char(31))), 1, 8))))) AS digest
FROM usage_log FINAL
WHERE seller_id IN %(sellers)s
  AND position <= transform(toString(seller_id), %(sellers)s, CAST(%(positions)s, 'Array(Int64)'), 0)
GROUP BY seller_id, day
"""


if __name__ == "__main__":
    sys.exit(main())
