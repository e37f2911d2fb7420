"""Every rule of dunning that can be broken; the class name is the reason."""

from __future__ import annotations

from common.errors import FailedPrecondition, NotFound


class DunningCampaignNotFound(NotFound):
    """There is no such campaign at this seller, or none for this invoice."""


class DunningCampaignOver(FailedPrecondition):
    """The campaign has come to its end; nothing follows."""


class StepOutOfTurn(FailedPrecondition):
    """Every retry comes before giving up."""
