"""Knows how far the log is behind in being copied."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Select, literal_column, select

UNCOPIED: Final[Select[Any]] = select(  # Any: of one whole number
    literal_column(
        "(SELECT coalesce(sum(p.last - coalesce(c.position, 0)), 0)::bigint"
        " FROM positions p LEFT JOIN usage_copies c USING (seller_id))",
        BigInteger,
    )
)
"""How many usage events and corrections are in the log, and not known to be in the copy."""
