"""Knows how messages go wrong: changes one at random, by its descriptor, in the ways that people and programs do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from google.protobuf.message import Message

Change = Callable[[], object]

NUMBERS = (
    *("0", "1", "3", "5", "10", "100", "100.5", "1000", "12.50", "+7", "1e2", "-0", ".5", "2.", "1E-12"),
    *("-1", "-0.01", "100.000000000001", "101", "1000000000000000", "1000000000000000.1", "1e16", "1e999"),
    *("0.000000000001", "0.0000000000001", "0.000000000000000001", "0.0000000000000000001", "1e-999", "1e9999"),
    *("", " ", "1 ", " 1", "1\n", "1\x00", "NaN", "sNaN", "Infinity", "-Infinity", "inf", "1,5", "1.000,50"),
    *("1e", "e5", "--1", "+-1", "1.2.3", "½", "١٢", "１２", "1e+٣", "−5", "€5", "10%", "null", "1/3", "\u200b1"),
    *("1_000", "0x10", "None", "9" * 39, "9" * 200, "0." + "0" * 97 + "1"),
)
TEXTS = (
    *("", "EUR", "USD", "JPY", "KWD", "seat", "calls", "storage", "region", "model", "eu", "us", "a", "-", "0"),
    *("eur", "XXX", "XAU", "EURO", "ZZZ", " EUR", "EUR ", "ЕUR", "EUR\x00", "€", "A", "a b", " a", "a\n", "a\x00b"),
    *("\x1b[2J", "\u2028", "\u202e", "é", "日本", "../x", "'; --", "%s", "٣", "prod_1", "\ufeff"),
    *("a" * 64, "a" * 65, "a" * 128, "a" * 129, "b" * 5000),
)
COUNTS = (
    0,
    1,
    2,
    3,
    4,
    12,
    13,
    -1,
    -12,
    -13,
    40,
    41,
    100,
    120,
    121,
    366,
    367,
    1_000_000,
    1_000_001,
    2**31 - 1,
    -(2**31),
)
ENUMS = (0, 1, 2, 3, 4, 5, 6, 99, -1, 2**31 - 1, -(2**31))
MANY = (2, 99, 100, 101)
VERY_MANY = (999, 1000, 1001)


def spoil(message: Message, chance: random.Random, *, donors: Sequence[Message], times: int) -> None:
    """Change the message in so many places; some changes are harmless, as among people."""
    for _ in range(times):
        chance.choice(list(_places(message, chance, donors)))()


def _places(message: Message, chance: random.Random, donors: Sequence[Message]) -> Iterator[Change]:
    """Everything that could be changed, and how."""
    for field in message.DESCRIPTOR.fields:
        yield partial(message.ClearField, field.name)
        if field.is_repeated:
            yield partial(_rearrange, getattr(message, field.name), chance)
            if field.message_type:
                for each in getattr(message, field.name):
                    yield from _places(each, chance, donors)
            else:
                yield partial(_replace_one, getattr(message, field.name), chance)
        elif field.message_type is None:
            yield partial(_replace, message, field.name, chance)
        elif field.message_type.full_name == "google.type.Decimal":
            yield partial(_miscount, message, field.name, chance)
        elif message.HasField(field.name):
            yield from _places(getattr(message, field.name), chance, donors)
        else:
            yield partial(_transplant, message, field.name, chance, donors)
    yield lambda: message.MergeFromString(_unknown_field(chance))


def _miscount(message: Message, name: str, chance: random.Random) -> None:
    getattr(message, name).value = chance.choice(NUMBERS)


def _replace(message: Message, name: str, chance: random.Random) -> None:
    setattr(message, name, _other(message, name, chance))


def _other(message: Message, name: str, chance: random.Random) -> Any:  # Any: whatever the field holds
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.type == field.TYPE_STRING:
        return chance.choice(TEXTS)
    if field.type == field.TYPE_BOOL:
        return not getattr(message, name)
    return chance.choice(ENUMS if field.enum_type else COUNTS)


def _rearrange(entries: Any, chance: random.Random) -> None:  # Any: a repeated field of messages or scalars
    """Drop, swap, repeat: what cutting and pasting does to a list."""
    kept = list(entries)
    if not kept:
        return
    match chance.randrange(6):
        case 0:
            kept.pop(chance.randrange(len(kept)))
        case 1:
            kept.reverse()
        case 2:
            kept.insert(chance.randrange(len(kept) + 1), chance.choice(kept))
        case 3:
            chance.shuffle(kept)
        case 4:
            kept = [chance.choice(kept) for _ in range(chance.choice(MANY))]
        case _:
            many = VERY_MANY if chance.randrange(20) == 0 else MANY
            kept = [*kept[:-1], *[kept[-1]] * chance.choice(many)]
    copies = [type(each).FromString(each.SerializeToString()) if isinstance(each, Message) else each for each in kept]
    del entries[:]
    entries.extend(copies)


def _replace_one(entries: Any, chance: random.Random) -> None:  # Any: a repeated field of scalars
    if entries:
        entries[chance.randrange(len(entries))] = chance.choice(TEXTS)
    else:
        entries.append(chance.choice(TEXTS))


def _transplant(message: Message, name: str, chance: random.Random, donors: Sequence[Message]) -> None:
    """What another message has there, or an empty one: of a oneof, it replaces what was chosen."""
    found = [donor for donor in donors if donor.DESCRIPTOR is message.DESCRIPTOR and donor.HasField(name)]
    if found and chance.randrange(4):
        getattr(message, name).CopyFrom(getattr(chance.choice(found), name))
    else:
        getattr(message, name).SetInParent()


def _unknown_field(chance: random.Random) -> bytes:
    """A field of a contract yet to come, messages within messages."""
    inner = b""
    for _ in range(chance.choice((1, 5, 40))):
        inner = b"\xa2\x06" + _varint(len(inner)) + inner  # field 100, length-delimited
    return inner


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)
