"""Rules for rows to leave out, in terms of the file: `Quantity <= 0`, `Invoice ~ ^C`, `Country = Test`.

    "COLUMN SIGN VALUE" -> RowRule -> the rows of a batch that it meets

COLUMN is one of our names, which stands for whatever the file calls it, or a column of the file. `<= >= < >` compare
numbers, `=` is the same text, `~` a regular expression (RE2) that is found in it. A value that is missing or cannot be
compared meets no rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recserv.errors import UsageError
from recserv.training.amounts import Decimal
from recserv.training.columns import Mask, as_number, as_text, to_numpy

_RULE = re.compile(r"(?P<column>[^<>=~]+?)\s*(?P<sign><=|>=|<|>|=|~)\s*(?P<value>.*)")
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
_KEY = "left out if "


class RowRule(NamedTuple):
    """`number`: of the signs that compare numbers."""

    text: str
    column: str
    sign: str
    value: str
    number: float = 0.0

    @property
    def key(self) -> str:
        """What the rule's column is called among ours, where it is none of ours."""
        return _KEY + self.text

    def met(self, column: Any, decimal: Decimal = "") -> Mask:
        """Of one column of a batch: bool [rows]. `decimal`: the sign in its numbers, "" to be seen from the column."""
        if self.sign in _COMPARE:
            numbers, bad = as_number(column, decimal)
            found: Mask = _COMPARE[self.sign](numbers, self.number) & ~bad
            return found
        text, _ = as_text(column)
        same = pc.equal(pc.utf8_trim_whitespace(text), self.value)
        return to_numpy(pc.fill_null(same if self.sign == "=" else pc.match_substring_regex(text, self.value), False))


def parse_rule(text: str) -> RowRule:
    """Raises UsageError."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--leave-out {text}: expected COLUMN SIGN VALUE, such as 'Quantity <= 0' or 'Invoice ~ ^C'")
    column, sign, value = found.group("column").strip(), found["sign"], found["value"].strip()
    number = 0.0
    try:
        if sign in _COMPARE:
            number = float(value)
        elif sign == "~":
            pc.match_substring_regex(pa.array([""]), value)
    except (ValueError, pa.ArrowInvalid) as error:
        kind = "not a number" if sign in _COMPARE else "not a regular expression"
        raise UsageError(f"--leave-out {text}: {value!r} is {kind}") from error
    return RowRule(text.strip(), column, sign, value, number)


def parse_rules(texts: Sequence[str]) -> tuple[RowRule, ...]:
    return tuple(dict.fromkeys(parse_rule(text) for text in texts))


def is_rule_key(name: str) -> bool:
    return name.startswith(_KEY)
