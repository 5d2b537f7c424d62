"""Categories are paths: `Women > Shoes` and `Men > Shoes` are two.

    a cell -> paths -> for each path its beginnings, from general to specific: ("Women", "Women > Shoes")

What a category may be asked for by besides its path is its last name: that of one path means it, that of several means
all of them (`last_name`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

STEP = " > "
Parse = Callable[[Iterable[object]], list[str]]


def names(values: Iterable[object]) -> list[str]:
    """The distinct names, in order, without empty ones."""
    return list(dict.fromkeys(name for value in values if value is not None and (name := str(value).strip())))


class CategoryPaths:
    """`between`: what parts the paths of a cell; `step`: what parts the names of a path. A backslash before either
    makes it part of a name.
    """

    def __init__(self, between: str, step: str):
        self._between, self._step = between, step

    def of_text(self, text: str) -> list[str]:
        return self._beginnings(_split(text, self._between))

    def of_list(self, paths: Iterable[object]) -> list[str]:
        return self._beginnings(str(path) for path in paths if path is not None)

    def _beginnings(self, paths: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        for path in paths:
            steps = [_plain(step, (self._between, self._step)) for step in _split(path, self._step)]
            steps = [step for step in steps if step]
            found.update((STEP.join(steps[: size + 1]), None) for size in range(len(steps)))
        return list(found)


def _split(text: str, sign: str) -> list[str]:
    if not sign or sign not in text:
        return [text]
    if f"\\{sign}" not in text:
        return text.split(sign)
    parts = [""]
    for piece in text.split(sign):
        parts[-1] += piece
        if piece.endswith("\\"):
            parts[-1] += sign
        else:
            parts.append("")
    return parts[:-1] if parts[-1] == "" else parts


def _plain(name: str, signs: Iterable[str]) -> str:
    for sign in (*signs, ","):
        name = name.replace(f"\\{sign}", sign) if sign else name
    return name.strip()


def last_name(category: str) -> str:
    """The last name of a path; "" for a path of one name."""
    _, step, last = category.rpartition(STEP)
    return last if step else ""
