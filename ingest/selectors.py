"""PromQL series selectors, as remote-read wants them."""

from __future__ import annotations

import re

from lake import UserError

_MATCH = re.compile(r'\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*,?')
_KINDS = {"=": 0, "!=": 1, "=~": 2, "!~": 3}


def matchers(selector: str) -> list[tuple[int, str, str]]:
    """(kind, label, value) of a PromQL selector. Raises UserError for what is none."""
    text = selector.strip()
    name, brace, rest = text.partition("{")
    found = [(0, "__name__", name.strip())] if name.strip() else []
    inner = rest.rstrip()
    if brace and not inner.endswith("}"):
        raise UserError(f"the selector {selector!r} has no closing brace.")
    inner, at = inner[:-1], 0
    while inner[at:].strip():
        one = _MATCH.match(inner, at)
        if not one:
            raise UserError(f"the selector {selector!r} cannot be read at {inner[at:]!r}.")
        value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], one[3])
        found.append((_KINDS[one[2]], one[1], value))
        at = one.end()
    if not found:
        raise UserError("a selector must name a metric or a label.")
    return found
