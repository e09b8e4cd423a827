"""What a diff does to which rows or outcome are chosen: filters, order, branches, operands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rca.changes.diff import File, Line, tokens

_PICKS = re.compile(
    r"(?i)\.(where|filter|reject|distinct|uniq|exclude|order_?by\w*|sort\w*|limit|take|skip|offset|having)(?=\s*[({])"
)
_SQL = re.compile(
    r"(?i)\b(select|update|delete)\b.+\b(from|set)\b|^\W*(where|and|or|order by|having|limit)\b"
)
_CLAUSE = re.compile(
    r"(?i)\b(?:where|and|or|order by|group by|having|limit|distinct|join|desc|asc)\b"
)
_SIDED = frozenset(["-", "/", "%", "<", ">", "<=", ">=", "?"])  # what is on which side matters


def others(files: Sequence[File]) -> str | None:
    """Other rows picked, in another order, or the two sides of an operator changed about."""
    for one in files:
        if one.is_config or not one.removed or not one.added:
            continue
        found = _picked(one) or _about(one)
        if found:
            return found[:80]
    return None


def _picked(one: File) -> str | None:
    """A line that no longer filters or sorts, nothing of its kind having come elsewhere."""
    old, new = (_picks(lines) for lines in (one.removed, one.added))
    asks = any(re.search(r"\bif\b", line.text) for line in one.added)
    if not asks and old - new and sum(old.values()) > sum(new.values()):
        return next(line.text.strip() for line in one.removed if _picks([line]) & (old - new))
    return None


def _picks(lines: Sequence[Line]) -> Counter[str]:
    found = Counter[str]()
    for line in lines:
        found.update(name.lower() for name in _PICKS.findall(line.text))
        if _SQL.search(line.text):
            found.update(hit.lower() for hit in _CLAUSE.findall(line.text))
    return found


def _about(one: File) -> str | None:
    """A line of the same words, in which an operator has other words beside it."""
    if len(one.removed) != len(one.added):
        return None
    for was, now in zip(one.removed, one.added, strict=True):
        old, new = tokens([was]), tokens([now])
        if Counter(old) == Counter(new) and _sides(old) != _sides(new):
            return now.text.strip()
    return None


def _sides(found: Sequence[str]) -> Counter[tuple[str, str, str]]:
    beside = zip(found, found[1:], found[2:], strict=False)
    return Counter(three for three in beside if three[1] in _SIDED)
