"""Knows what an amendment does to the items of a subscription, plans and prices being known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from common.errors import InvalidArgument
from subscriptions.domain import errors
from subscriptions.domain.change import Action, AddItem, RemoveItem, SetAddOn, SetPlan, SetPrice, SetQuantity
from subscriptions.domain.customer import CustomerId
from subscriptions.domain.plan import ItemSpec, Plan
from subscriptions.domain.subscription import Subscription
from subscriptions.domain.terms import QUANTITY_MAX, Item, ItemId, PlanId, PriceId, Terms


@dataclass(frozen=True, slots=True)
class TakePrice:
    """A price of the plan or of an add-on, as another item."""

    spec: ItemSpec


@dataclass(frozen=True, slots=True)
class SwitchPrice:
    """Another price for an item, of the plan that it came with."""

    item_id: ItemId
    price_id: PriceId


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """Another plan, with the prices that are wanted of it."""

    plan_id: PlanId
    specs: Sequence[ItemSpec]
    successions: Mapping[PriceId, PriceId] = field(default_factory=dict)
    """Which price of the new list takes the place of which of the old one, where products do not say it."""


@dataclass(frozen=True, slots=True)
class TakeAddOn:
    """An add-on plan, with the prices that are wanted of it."""

    plan_id: PlanId
    specs: Sequence[ItemSpec]


@dataclass(frozen=True, slots=True)
class LeaveAddOn:
    """An add-on plan and all its items go."""

    plan_id: PlanId


Wish = TakePrice | SwitchPrice | SwitchPlan | TakeAddOn | LeaveAddOn | Action
"""What is asked for: something that depends on what plans consist of, or an action as it is."""


def plans_asked(wishes: Sequence[Wish], subscription: Subscription, *, at: datetime) -> dict[PlanId, list[PriceId]]:
    """The plans that must be known before the wishes can be fulfilled, with the prices that are named."""
    then = subscription.as_of(at)
    own = [then.plan_id, *then.add_ons]
    asked: dict[PlanId, list[PriceId]] = {}
    for wish in wishes:
        match wish:
            case TakePrice(spec):
                for plan_id in own:
                    asked.setdefault(plan_id, []).append(spec.price_id)
            case SwitchPrice(item_id, price_id) if item_id in then.items:
                asked.setdefault(then.items[item_id].plan_id, []).append(price_id)
            case SwitchPlan(plan_id=plan_id, specs=specs) | TakeAddOn(plan_id, specs):
                asked.setdefault(plan_id, []).extend(spec.price_id for spec in specs)
                own.append(plan_id)
    return asked


class Amendment:
    """The wishes turned into actions, one after the other, each seeing what those before it have done."""

    def __init__(
        self,
        subscription: Subscription,
        plans: Mapping[PlanId, Plan],
        *,
        effective: datetime,
        at: datetime,
        new_id: Callable[[], ItemId],
    ) -> None:
        then = subscription.as_of(effective)
        self._customer_id: CustomerId = then.customer_id
        self._currency = subscription.opening.currency
        self._plans = plans
        self._plan_id = then.plan_id
        self._add_ons = list(then.add_ons)
        self._items: dict[ItemId, Terms] = dict(then.items)
        self._effective = effective
        self._at = at
        self._new_id = new_id

    def actions(self, wishes: Sequence[Wish], *, field: str = "") -> list[Action]:
        """`field` is where the caller made the wishes, if they are no actions of a change."""
        return [
            action
            for n, wish in enumerate(wishes)
            for action in self._fulfil(
                wish, field=f"{field}[{n}]" if field else f"actions[{n}].{_NAMES.get(type(wish), '')}"
            )
        ]

    def _fulfil(self, wish: Wish, *, field: str) -> list[Action]:
        match wish:
            case TakePrice(spec):
                return [self._take_price(spec, field=field)]
            case SwitchPrice(item_id, price_id):
                return [self._switch_price(item_id, price_id, field=field)]
            case SwitchPlan(plan_id, specs, successions):
                return self._switch_plan(plan_id, specs, successions, field=f"{field}.items")
            case TakeAddOn(plan_id, specs):
                return self._take_add_on(plan_id, specs, field=f"{field}.items")
            case LeaveAddOn(plan_id):
                return self._leave_add_on(plan_id)
            case SetQuantity(item_id, quantity):
                if self._agreed(item_id).quantity is None:
                    raise InvalidArgument("must not be set: the quantity of a metered price is its usage", field=field)
                if quantity > QUANTITY_MAX:
                    raise InvalidArgument(f"must be at most {QUANTITY_MAX}", field=f"{field}.quantity")
                self._items[item_id] = replace(self._items[item_id], quantity=quantity)
                return [wish]
            case RemoveItem(item_id):
                self._agreed(item_id)
                del self._items[item_id]
                return [wish]
            case _:
                return [wish]

    def _agreed(self, item_id: ItemId) -> Terms:
        terms = self._items.get(item_id)
        if terms is None:
            raise errors.ItemNotFound(f"the subscription has no item {item_id}", item=item_id)
        return terms

    def _plan(self, plan_id: PlanId) -> Plan:
        plan = self._plans.get(plan_id)
        if plan is None:
            raise errors.SubscriptionMoved(f"plan {plan_id} was not asked about", plan=plan_id)
        return plan

    def _offered(self, spec: ItemSpec, *, field: str) -> Terms:
        """The terms of a price by whichever of the subscription's plans has it."""
        refused: errors.PriceNotInPlan | None = None
        for plan_id in (self._plan_id, *self._add_ons):
            try:
                return self._plan(plan_id).terms(
                    spec, customer_id=self._customer_id, currency=self._currency, field=field
                )
            except errors.PriceNotInPlan as refusal:
                refused = refused or refusal
        assert refused is not None, "a subscription has a plan"
        raise refused

    def _take_price(self, spec: ItemSpec, *, field: str) -> AddItem:
        terms = self._offered(spec, field=field)
        if terms.meter and any(each.price_id == terms.price_id for each in self._items.values()):
            message = "must not be a metered price that another item has: its usage would be billed twice"
            raise InvalidArgument(message, field=f"{field}.price_id")
        return self._add(terms)

    def _add(self, terms: Terms) -> AddItem:
        item = Item(id=self._new_id(), terms=terms)
        self._items[item.id] = terms
        return AddItem(item)

    def _switch_price(self, item_id: ItemId, price_id: PriceId, *, field: str) -> SetPrice:
        before = self._agreed(item_id)
        spec = ItemSpec(price_id=price_id, quantity=None)
        terms = self._plan(before.plan_id).terms(
            spec, customer_id=self._customer_id, currency=self._currency, field=field
        )
        return self._set_price(item_id, before, terms)

    def _set_price(self, item_id: ItemId, before: Terms, terms: Terms) -> SetPrice:
        if before.quantity is not None and terms.quantity is not None:
            terms = replace(terms, quantity=before.quantity)
        self._items[item_id] = terms
        return SetPrice(item_id, terms)

    def _switch_plan(
        self, plan_id: PlanId, specs: Sequence[ItemSpec], successions: Mapping[PriceId, PriceId], *, field: str
    ) -> list[Action]:
        plan = self._plan(plan_id)
        plan.check_open(start=self._effective, at=self._at)
        left = {item_id: terms for item_id, terms in self._items.items() if terms.plan_id == self._plan_id}
        actions: list[Action] = [SetPlan(plan_id)]
        for spec, terms in plan.take(specs, customer_id=self._customer_id, currency=self._currency, field=field):
            item_id = _predecessor(terms, left, plan, successions)
            if item_id is None:
                actions.append(self._add(terms))
                continue
            before = left.pop(item_id)
            kept = replace(before, quantity=terms.quantity) if spec.quantity is not None else before
            actions.append(self._set_price(item_id, kept, terms))
        for item_id in left:
            del self._items[item_id]
            actions.append(RemoveItem(item_id))
        self._plan_id = plan_id
        return actions

    def _take_add_on(self, plan_id: PlanId, specs: Sequence[ItemSpec], *, field: str) -> list[Action]:
        plan = self._plan(plan_id)
        plan.check_open(start=self._effective, at=self._at, as_add_on=True)
        if plan_id in self._add_ons:
            raise errors.AddOnTaken(f"the subscription has add-on {plan_id} already", plan=plan_id)
        self._add_ons.append(plan_id)
        taken = plan.take(specs, customer_id=self._customer_id, currency=self._currency, field=field)
        return [SetAddOn(plan_id, is_taken=True), *(self._add(terms) for _, terms in taken)]

    def _leave_add_on(self, plan_id: PlanId) -> list[Action]:
        if plan_id not in self._add_ons:
            raise errors.AddOnNotFound(f"the subscription has no add-on {plan_id}", plan=plan_id)
        self._add_ons.remove(plan_id)
        gone = [item_id for item_id, terms in self._items.items() if terms.plan_id == plan_id]
        for item_id in gone:
            del self._items[item_id]
        return [SetAddOn(plan_id, is_taken=False), *(RemoveItem(item_id) for item_id in gone)]


def _predecessor(
    terms: Terms, left: Mapping[ItemId, Terms], plan: Plan, successions: Mapping[PriceId, PriceId]
) -> ItemId | None:
    """The item that goes on with a price of the new plan: by what was said of its own price, else by product."""
    by_product: ItemId | None = None
    for item_id, before in left.items():
        said = successions.get(before.price_id) or successions.get(plan.list_price_of(before.price_id))
        if said is not None and said in (terms.price_id, plan.list_price_of(terms.price_id)):
            return item_id
        if said is None and by_product is None and _is_successor(terms, before):
            by_product = item_id
    return by_product


def _is_successor(terms: Terms, before: Terms) -> bool:
    """Whether a price of another plan is for the same thing, so that the item stays the same item."""
    return bool(terms.product_id) and (terms.product_id, terms.meter, terms.interval is None) == (
        before.product_id,
        before.meter,
        before.interval is None,
    )


# What the contract calls a wish whose parts can be refused.
_NAMES: Final[Mapping[type[Wish], str]] = {
    TakePrice: "add_item",
    SwitchPrice: "set_price",
    SwitchPlan: "change_plan",
    TakeAddOn: "add_add_on",
    SetQuantity: "set_quantity",
}
