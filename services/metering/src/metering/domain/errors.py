"""Knows why the metering service refuses; the class name is the reason that a caller sees."""

from __future__ import annotations

from common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)


class MeterCodeTaken(AlreadyExists):
    """The seller has a meter with this code, and what it counts is its own to say."""


class MeterNotFound(NotFound):
    """The seller has no such meter."""


class MeterVersionNotFound(NotFound):
    """The meter has no such version."""


class MeterChanged(FailedPrecondition):
    """Somebody else has changed the meter since the caller looked at it: look again, and decide anew."""


class MeterEffectiveInPast(FailedPrecondition):
    """The version would count periods anew that have begun, or were billed: say that it is to."""


class MeterVersionFollows(FailedPrecondition):
    """Another version takes effect after this one, which would take its place too: say that it is to."""


class TooManyMeterVersions(FailedPrecondition):
    """The meter has been changed so often that another one is needed."""


class UnknownMeter(InvalidArgument):
    """A usage event names a meter that the seller does not have. It is kept, and counts once there is one."""


class UnknownCustomer(InvalidArgument):
    """As far as metering has heard, no customer is called as a usage event says. It is kept, and counts once one is."""


class SourceReserved(InvalidArgument):
    """Usage events of this source are those of commits of quota, which nobody else sends."""


class EventInFuture(InvalidArgument):
    """A usage event says that it happens later than any difference between clocks explains."""


class EventTooOld(InvalidArgument):
    """A usage event happened longer ago than its meter accepts."""


class TooManyGroups(FailedPrecondition):
    """There are more combinations of values than one usage can tell: ask by fewer dimensions, or for less time."""


class TooManyWindows(FailedPrecondition):
    """There are more windows, or days of buckets, than one answer can tell: ask for longer ones, or for less time."""


class TooManyValues(FailedPrecondition):
    """There are more usage events than one usage can tell the values of: ask for less time."""


class FrozenUsageNotFound(NotFound):
    """The seller has no such frozen usage."""


class FrozenUsageReplaced(FailedPrecondition):
    """Another frozen usage has taken the place of this one: replace that one."""


class PeriodNotEnded(FailedPrecondition):
    """The period is not over: usage that is still to come would be late."""


class UsageEventNotFound(NotFound):
    """No usage event of this source and id was stored."""


class UsageEventVoided(FailedPrecondition):
    """The usage event counts no more, for good. What happened after all is sent with another id."""


class TooManyAmendments(FailedPrecondition):
    """The usage event has been amended so often that it can only be voided any more."""


class UsageThresholdNotFound(NotFound):
    """The seller has no such usage threshold."""


class CustomerNotFound(NotFound):
    """As far as metering has heard, the seller has no such customer, or it was merged into another one."""


class AggregationHasNoThreshold(FailedPrecondition):
    """The smallest value of a period only falls, from the first usage event on: there is nothing for it to reach."""


class PeriodEnded(FailedPrecondition):
    """The period is over: nobody would hear of what is reached in it."""


class TooManyUsageThresholds(FailedPrecondition):
    """The seller has as many active thresholds as there can be: archive some, or have one for every customer."""


class IngestOverloaded(ResourceExhausted):
    """More usage events are waiting than can soon be stored."""


class IngestMoving(Unavailable):
    """Who stores usage events is changing. What was sent may have been stored or not: send the same again."""


class FeatureNotFound(NotFound):
    """As far as metering has heard, there is no such feature, so that it is not known what it counts on."""


class NotEntitled(FailedPrecondition):
    """As far as metering has heard, the customer has nothing of the feature."""


class LimitExceeded(FailedPrecondition):
    """The customer may not have so many."""


class QuotaExceeded(FailedPrecondition):
    """No quota of the customer has room for it: wait for the next period, or for what is reserved to be released."""


class FeatureNotQuota(FailedPrecondition):
    """The feature is a switch or a limit, of which nothing is used up."""


class QuotaNotReservable(FailedPrecondition):
    """What is set aside would not be what its usage event counts for on this meter."""


class TooManyQuotaReservations(FailedPrecondition):
    """At most 1,000 reservations of one customer and meter are under way."""


class QuotaReservationNotFound(NotFound):
    """The seller has no such reservation."""


class QuotaReservationExpired(FailedPrecondition):
    """The reservation has ended by itself, and others may have what it had set aside."""


class QuotaReservationEnded(FailedPrecondition):
    """The reservation was released, or committed otherwise than is asked for."""


class UsageArchived(FailedPrecondition):
    """Usage events that would have to be looked at are no longer in the log, but in files: they can be restored."""


class UsageStoreUnavailable(Unavailable):
    """The store that counts usage does not answer. What is ingested is stored all the same. Ask again."""


class UsageCopyBehind(Unavailable):
    """The store that counts usage does not have all yet that is to be counted. Ask again, or of an earlier position."""


class TooManyExpressedEvents(FailedPrecondition):
    """The store that counts usage calculates this expression event by event, which it does for so many at most."""


class LeafNotFound(NotFound):
    """The log has no such leaf, or not in this state."""


class LeafStillNeeded(FailedPrecondition):
    """Something still has to be done with the usage events of the leaf."""


class ArchiveMismatch(FailedPrecondition):
    """What somebody has of a leaf is not what is in it."""


class LogBusy(Unavailable):
    """The log is being read all the time. Try again."""


class BackfillNotFound(NotFound):
    """The seller has no such backfill."""


class BackfillNotOpen(FailedPrecondition):
    """The backfill has been closed or reverted: open another one."""


class BackfillFull(FailedPrecondition):
    """What is new of the batch does not fit into the backfill: close it, and load the rest into another one."""


class BackfillIncomplete(FailedPrecondition):
    """The backfill has another number of usage events than whoever closes it says."""


class BackfillAmended(FailedPrecondition):
    """A usage event of the backfill was amended, and what it says since would go on counting: void it first."""


class TooManyBackfills(FailedPrecondition):
    """The seller has as many backfills as there can be: close or revert some."""
