"""The log of usage events: what came in is written once, in order, by one owner at a time, and remembered for ever."""

from metering.log.batch import Batch
from metering.log.log import Log
from metering.log.owner import Stored

__all__ = ["Batch", "Log", "Stored"]
