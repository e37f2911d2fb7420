"""The log of usage events: what came in is written once, in order, by one owner at a time of each of its shards, and
remembered for ever."""

from metering.log.batch import Batch
from metering.log.group import Stored
from metering.log.log import Log
from metering.log.shard import Shard

__all__ = ["Batch", "Log", "Shard", "Stored"]
