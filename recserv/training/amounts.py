"""Prices and other amounts as people write them: `9.50 EUR`, `€ 12,50`, `1.299,00`, `1'299`, `1 299,00 kr`.

Whether a comma is the decimal sign is seen from the column as a whole: `12,50` says so, and then `1.299` is 1299.
Without any sign of it the point is decimal and the comma parts thousands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

Decimal = Literal["", ",", "."]

_SYMBOLS = {"€": "EUR", "£": "GBP", "₹": "INR", "zł": "PLN", "₺": "TRY", "₽": "RUB", "₩": "KRW"}
_CURRENCY = r"[A-Za-z]{3}|[A-Z]{0,3}\$|zł|kr\.?|Fr\.?|[€£¥₹₺₽₩]"
_SPACES = " \u00a0\u202f\u2009"
_AMOUNT = re.compile(
    rf"({_CURRENCY})?[{_SPACES}]*([+-]?[0-9][0-9.,'\u2019{_SPACES}]*|[+-]?[.,][0-9]+)[{_SPACES}]*({_CURRENCY})?"
)
_PLAIN = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_DIGITS = re.compile(r"[+-]?[0-9.,]+")
_THOUSANDS = re.compile(rf"['\u2019{_SPACES}]")
_MISSING = frozenset(("", "nan", "null", "none", "\\n", "n/a", "undefined", "(not set)", "na"))


class Amount(NamedTuple):
    """`value` NaN where there is none; `bad`: there is text, but not an amount. `currency`: ISO 4217, or ""."""

    value: float
    currency: str = ""
    bad: bool = False


def amounts(texts: Iterable[str], told: Decimal = "") -> tuple[list[Amount], Decimal]:
    """One each, and the decimal sign that they were read with: "" where both are in use, so only what cannot be
    misread is an amount.
    """
    split = [_split(text) for text in texts]
    decimal = told or _decimal_sign(digits for digits, _ in split if _DIGITS.fullmatch(digits))
    return [_amount(digits, currency, decimal) for digits, currency in split], decimal


def _split(text: str) -> tuple[str, str]:
    """The number as it is written and the currency. Whatever is no amount stays whole."""
    text = text.strip()
    if text.lower() in _MISSING:
        return "", ""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return text, ""
    before, digits, after = found.groups()
    if before and after:
        return text, ""
    word = (before or after or "").strip()
    currency = _SYMBOLS.get(word, word.upper() if len(word) == 3 and word.isalpha() else "")
    return _THOUSANDS.sub("", digits), currency


def _decimal_sign(written: Iterable[str]) -> Decimal:
    signs: set[Decimal] = set()
    for digits in written:
        sign = _sign_of(digits)
        if sign:
            signs.add(sign)
        if len(signs) == 2:
            return ""
    return next(iter(signs), ".")


def _sign_of(digits: str) -> Decimal:
    """The decimal sign that one number reveals, "" for none: `1.299` and `1,299` could be either."""
    point, comma = digits.rfind("."), digits.rfind(",")
    if point < 0 and comma < 0:
        return ""
    last: Decimal = "." if point > comma else ","
    other: Decimal = "," if last == "." else "."
    if point >= 0 and comma >= 0:
        return last if digits.count(last) == 1 else ""
    if digits.count(last) > 1:
        return other
    whole, _, rest = digits.lstrip("+-").partition(last)
    return last if len(rest) != 3 or len(whole) > 3 or whole in ("", "0") else ""


def _amount(digits: str, currency: str, decimal: Decimal) -> Amount:
    if not digits:
        return Amount(math.nan)
    sign = decimal or _sign_of(digits)
    if not sign:
        if "," in digits or "." in digits:
            return Amount(math.nan, bad=True)
        sign = "."
    whole, _, rest = digits.partition(sign)
    groups = whole.lstrip("+-").split("," if sign == "." else ".")
    grouped = len(groups) == 1 or (0 < len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:]))
    plain = f"{'-' if digits.startswith('-') else ''}{''.join(groups)}.{rest}" if rest else "".join(groups)
    if not rest and digits.startswith("-"):
        plain = f"-{plain}"
    if plain.startswith((".", "-.")):
        plain = plain.replace(".", "0.", 1)
    if not grouped or not _PLAIN.fullmatch(plain):
        return Amount(math.nan, bad=True)
    value = float(plain)
    return Amount(value, currency) if math.isfinite(value) else Amount(math.nan, bad=True)
