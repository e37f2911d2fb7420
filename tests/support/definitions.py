"""Knows definitions of prices that went wrong on the way, and where a refusal of one may lead."""

from __future__ import annotations

import random
import re
from typing import Any, Final

from google.protobuf.message import Message

from saldo.catalog.v1 import price_pb2
from tests.support.malformed import spoil
from tests.support.prices import sound_prices, sound_tariffs

_SEGMENT: Final = re.compile(r"([a-z_]+)(?:\[([0-9]+)\])?")


def definitions(product_id: str, *, count: int, seed: int) -> list[price_pb2.Price]:
    """Sound prices that were changed in one to four places, each of them by a seed of its own."""
    sound = sound_prices()
    for price in sound:
        price.product_id = product_id
    donors = [*sound, *sound_tariffs()]
    made = []
    for n in range(count):
        chance = random.Random(seed + n)
        price = price_pb2.Price()
        price.CopyFrom(chance.choice(sound))
        spoil(price, chance, donors=donors, times=chance.choice((1, 1, 2, 4)))
        made.append(price)
    return made


def leads_somewhere(message: Message, path: str) -> bool:
    """Whether a path names a field, or a choice between fields, and an entry that was sent."""
    here: Any = message  # Any: whatever the field holds
    for segment in path.split("."):
        match = _SEGMENT.fullmatch(segment)
        if match is None or not isinstance(here, Message):
            return False
        name, position = match.groups()
        if name in here.DESCRIPTOR.oneofs_by_name and path.endswith(f".{name}"):
            return True
        if name not in here.DESCRIPTOR.fields_by_name:
            return False
        here = getattr(here, name)
        if position is not None:
            if int(position) >= len(here):
                return False
            here = here[int(position)]
    return True


def rule(field: str, description: str) -> str:
    """What was told, whichever entries and numbers it was told about."""
    return re.sub(r"[0-9]+", "0", f"{field} {description}")
