"""The copy of the log in ClickHouse: how it is written, and how usage is counted there, the same to the byte."""

from metering.clickhouse.composing import Copy

__all__ = ["Copy"]
