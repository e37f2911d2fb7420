"""Every rule of invoicing that can be broken; the class name is the reason."""

from __future__ import annotations

from common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)


class InvoiceNotFound(NotFound):
    """There is no such invoice at this seller."""


class SeriesNotFound(NotFound):
    """The seller has no series of numbers of this name, or it has no numbers beyond the one asked about."""


class CreditNoteNotFound(NotFound):
    """There is no such credit note at this seller."""


class CustomerNotFound(NotFound):
    """There is no such customer at this seller."""


class SubscriptionNotFound(NotFound):
    """There is no such subscription at this seller."""


class ConsolidationPolicyNotFound(NotFound):
    """There is no such consolidation policy at this seller."""


class SpendThresholdNotFound(NotFound):
    """There is no such spend threshold at this seller, or it counts no more."""


class SpendThresholdNotPositive(InvalidArgument):
    """A spend threshold is more than nothing."""


class LineNotFound(NotFound):
    """There is no such line on the invoice."""


class MeterNotCounted(InvalidArgument):
    """The line was not derived from this meter."""


class PriceNotFound(NotFound):
    """There is no such price in the catalog of this seller."""


class PlanNotFound(NotFound):
    """There is no such plan in the catalog of this seller."""


class TaxRateNotFound(NotFound):
    """There is no such tax rate at this seller."""


class TaxRuleNotFound(NotFound):
    """There is no such tax rule at this seller."""


class TaxCodeNotFound(NotFound):
    """There is no such tax code in the catalog of this seller."""


class WeightNotPositive(InvalidArgument):
    """Shares are in proportion to weights that are not negative, and not all zero."""


class ConsolidationKeyUnknown(InvalidArgument):
    """Nothing that is billed has a value by this key."""


class TooManyConsolidationKeys(InvalidArgument):
    """More keys than one consolidation policy has."""


class InvoiceNotDraft(FailedPrecondition):
    """The invoice has been finalized, so its lines can no longer change."""


class InvoiceHeld(FailedPrecondition):
    """The draft is held, by somebody or until it is approved: it has to be released first."""


class InvoiceNotHeld(FailedPrecondition):
    """Nothing holds the draft."""


class DraftMoved(Aborted):
    """The draft, or a coupon that it uses, is being billed by somebody else. Nothing was stored; try the same again."""


class InvoiceNotManual(FailedPrecondition):
    """A bill run wrote the invoice: its lines follow from what was agreed and used, and nobody writes others."""


class NoLines(FailedPrecondition):
    """The invoice has no lines: there is nothing that anybody could owe."""


class PendingLineNotFound(NotFound):
    """There is no such line that waits for an invoice at this seller."""


class PendingLineBilled(FailedPrecondition):
    """The line does not wait any more: it is on an invoice."""


class TooManyPendingLines(FailedPrecondition):
    """More lines than may wait for an invoice of one customer."""


class LineInAnotherCurrency(FailedPrecondition):
    """An invoice has one currency, and the price of the line has another."""


class PriceOfAnotherCustomer(FailedPrecondition):
    """The price was negotiated with somebody else."""


class CouponNotFound(NotFound):
    """There is no such coupon in the catalog of this seller."""


class InvoiceNotFinalized(FailedPrecondition):
    """The invoice is still a draft: there is nothing to send or to pay yet."""


class InvoiceNotOwed(FailedPrecondition):
    """Nothing is owed on a draft or a void invoice, so no payment can settle it."""


class InvoiceNotOpen(FailedPrecondition):
    """Only what is owed can be given up: the invoice is a draft, settled, void or given up already."""


class InvoiceWithoutNumber(FailedPrecondition):
    """The invoice is of nothing, and by the seller's policy no document: there is none to print or to correct."""


class InvoiceIsVoid(FailedPrecondition):
    """The invoice was annulled: nothing can be taken back of it any more."""


class InvoiceHasPayments(FailedPrecondition):
    """Money came in for the invoice, so it cannot be annulled: a credit note takes it back."""


class InvoiceCorrectedSince(FailedPrecondition):
    """A later invoice corrects a line of this one, or takes off more of the same credit: annul that one first."""


class InvoiceNotOverdue(FailedPrecondition):
    """The invoice is settled, was found overdue before, or may still be paid in time."""


class PaymentExceedsRemaining(FailedPrecondition):
    """The payment is larger than what remains to be paid."""


class PaymentNotPositive(FailedPrecondition):
    """A payment brings in more than nothing."""


class NegativeTotal(FailedPrecondition):
    """The lines of the invoice add up to less than nothing, which nobody can pay."""


class NegativeQuantity(FailedPrecondition):
    """Nobody can use less than nothing."""


class TooManyLines(FailedPrecondition):
    """More lines than one bill run may write, or than can be rated anew at once."""


class TooManyInvoices(FailedPrecondition):
    """More invoices of one customer for one bill time than can be told apart."""


class InvoiceTooLong(FailedPrecondition):
    """More lines would be on one invoice than an invoice may have: a consolidation policy puts them on several."""


class BillRunNotFound(NotFound):
    """There is no such bill run at this seller."""


class BillRunTooLarge(FailedPrecondition):
    """More customers than one bill run may have."""


class BillRunEnded(FailedPrecondition):
    """All customers of the bill run have been looked at, or it was cancelled: there is nothing to take back."""


class PreviewTooLong(FailedPrecondition):
    """More bill times, lines or customers until then than can be looked ahead to at once."""


class UsageTooDetailed(FailedPrecondition):
    """The usage of a period has more groups, or more transactions, than can be looked at for one line."""


class TaxPercentMismatch(InvalidArgument):
    """In some categories something is due, in others nothing is: the percent says the opposite."""


class ExemptionReasonMismatch(InvalidArgument):
    """Whoever says that nothing is due says why, and nobody else does."""


class TooManyTaxRates(InvalidArgument):
    """More rates than one thing can carry."""


class TaxRatesMixed(InvalidArgument):
    """Rates that are included in an amount and rates that are not, or two compound ones, cannot share a thing."""


class TaxRateExists(AlreadyExists):
    """There is a rate that says the same and is not archived: an invoice could not tell the two apart."""


class TaxRateArchived(FailedPrecondition):
    """An archived rate goes on in the rules that name it, and gets into no new ones."""


class TaxRuleExists(AlreadyExists):
    """The scope has another rule that begins at the same instant."""


class TaxRuleRetroactive(FailedPrecondition):
    """Rules are not changed for the past: only the first one of a scope may begin there."""


class TaxRuleEnded(FailedPrecondition):
    """The rule has ended before."""


class TooManyTaxRules(FailedPrecondition):
    """More rules than are looked at for an invoice."""


class TaxUnavailable(Unavailable):
    """Whoever knows the taxes does not answer: nothing is issued without them, and what is due waits."""


class CreditGrantNotFound(NotFound):
    """There is no such grant at this seller."""


class CreditBalanceNotFound(NotFound):
    """The customer never had any credit in this currency."""


class CreditReservationNotFound(NotFound):
    """There is no such reservation of credit at this seller."""


class CustomerIsPartOfAnother(FailedPrecondition):
    """The customer is part of another one, which has its credit from now on."""


class CreditTopUpRuleNotFound(NotFound):
    """Nobody said when to buy credit for this customer in this currency."""


class CreditAmountNotPositive(InvalidArgument):
    """Credit is granted, reserved, used and bought in amounts of more than nothing."""


class CreditTimesContradict(InvalidArgument):
    """Credit that would be over before it could be used is none."""


class TopUpNotGivenBack(FailedPrecondition):
    """Credit that was bought is given back by revoking its grant: a credit note would leave the customer both."""


class CreditGrantEnded(FailedPrecondition):
    """Nothing is left of the grant that is not reserved."""


class InsufficientCredit(FailedPrecondition):
    """There is less credit that can be used for this."""


class CreditReservationEnded(FailedPrecondition):
    """The reservation was released, or committed otherwise."""


class CreditReservationExpired(FailedPrecondition):
    """The reservation was not committed in time."""


class CreditReservationExceeded(FailedPrecondition):
    """More is to be used than was reserved."""


class TooManyCreditGrants(ResourceExhausted):
    """So many grants of one customer and currency are open that more would be too much to look at at once."""


class TooManyCreditReservations(ResourceExhausted):
    """So many reservations of one customer and currency are open that more would be too much to look at at once."""


class CreditExceedsLine(FailedPrecondition):
    """It is not a part of what earlier credit notes have left of the line."""


class CreditExceedsInvoice(FailedPrecondition):
    """It is more than earlier credit notes have left of the whole invoice."""


class NothingLeftToCredit(FailedPrecondition):
    """Earlier credit notes have taken back all of the invoice, or it came to nothing."""


class CreditNoteNotPositive(FailedPrecondition):
    """The lines to be credited add up to nothing or less: with that nobody is given anything back."""


class SettlementDiffersFromTotal(FailedPrecondition):
    """What is to become of a credit note adds up to another amount than the credit note."""


class SettlementExceedsDebt(FailedPrecondition):
    """More debt would be cancelled than is still owed of the invoice."""


class RefundExceedsPayments(FailedPrecondition):
    """More would be paid back than was paid for the invoice, less what earlier credit notes pay back."""


class RefundExceedsPending(FailedPrecondition):
    """The credit note has less left to be paid back."""


class RefundAlreadyRecorded(FailedPrecondition):
    """The reference is that of another refund: of another credit note, or of another amount."""
