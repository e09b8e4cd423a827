"""Secrets and personal data out of everything a tool hands on.

Masked where data leaves for a model: values by the name they stand under (password, token, …),
and texts that look like a secret by themselves (bearer tokens, keys of known makers, credentials
in a URL, private keys), e-mail addresses and card numbers. Masking twice equals masking once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_NAME = (
    r"(?:[a-z0-9]+[_.-])*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|apikey"
    r"|access[_-]?key|private[_-]?key|secret[_-]?key|signing[_-]?key|credentials?|client[_-]?secret"
    r"|session[_-]?id|cookie|authorization)(?:[_-](?:id|key|value))?"
)
_SECRET_NAME = re.compile(rf"(?i)^{_NAME}$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Rule(NamedTuple):
    """What to find, and what to put in its place."""

    kind: str
    pattern: re.Pattern[str]
    put: Callable[[re.Match[str]], str]


def _whole(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda _found: f"[masked {kind}]"


def _value(found: re.Match[str]) -> str:
    """Keeps the name before a value, and the quotes around it."""
    return f"{found['name']}{found['open'] or ''}[masked secret]{found['close'] or ''}"


def _card(found: re.Match[str]) -> str:
    digits = re.sub(r"\D", "", found[0])
    return "[masked card]" if 13 <= len(digits) <= 19 and _luhn(digits) else found[0]


def _luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


_MAKERS = (
    r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{16,}|[rs]k_(?:live|test)_\w{10,}"
    r"|AIza[\w-]{30,}|npm_\w{30,}|pypi-\w{30,}|hf_[A-Za-z0-9]{20,}"
)
RULES = (
    Rule(
        "private key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S),
        _whole("private key"),
    ),
    Rule("token", re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), _whole("token")),
    Rule("key", re.compile(rf"(?<![\w-])(?:{_MAKERS})"), _whole("key")),
    Rule(
        "credentials",
        re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/@:\[\]\"']*:[^\s/@\"']+@", re.I),
        lambda found: f"{found['scheme']}[masked credentials]@",
    ),
    Rule(
        "token",
        re.compile(r"(?P<how>\b(?:bearer|basic|negotiate)\s+)(?P<what>[\w.~+/-]{8,}=*)", re.I),
        lambda found: f"{found['how']}[masked token]"
        if re.search(r"[\d=]|[a-z][A-Z]", found["what"])
        else found[0],
    ),
    Rule(
        "secret",
        re.compile(
            rf"(?P<name>(?<![\w-]){_NAME}[\"']?\s*(?::=|=>|[:=])\s*)(?P<open>[\"'])?"
            r"(?!\[masked|(?:bearer|basic|negotiate)\s|null\b|none\b|true\b|false\b)"
            r"(?P<value>(?(open)[^\"'\n]+|[^\s,;&\"'(){}\[\]]+))(?P<close>[\"'])?",
            re.I,
        ),
        _value,
    ),
    Rule(
        "e-mail",
        re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
        _whole("e-mail"),
    ),
    Rule("card", re.compile(r"(?<![\w.-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w.-])"), _card),
)  # fmt: skip
ADDRESS = Rule(
    "address",
    re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])"),
    _whole("address"),
)  # fmt: skip


def text(given: str, *, addresses: bool = False) -> str:
    """The text with secrets and personal data masked; IP addresses too, when asked for."""
    for rule in (*RULES, *((ADDRESS,) if addresses else ())):
        given = rule.pattern.sub(rule.put, given)
    return given


def value(given: Any, *, addresses: bool = False) -> Any:
    """A JSON-like value with every text in it masked, and what stands under a secret's name."""
    if isinstance(given, str):
        return text(given, addresses=addresses)
    if isinstance(given, Mapping):
        return {
            text(str(key)): _under(str(key), one, addresses=addresses) for key, one in given.items()
        }
    if _is_pair(given):
        return [given[0], _under(given[0], given[1], addresses=addresses)]
    if isinstance(given, list | tuple):
        return [value(one, addresses=addresses) for one in given]
    return given


def _under(name: str, given: Any, *, addresses: bool) -> Any:
    plain = isinstance(given, str | int | float) and not isinstance(given, bool)
    if plain and given != "" and _SECRET_NAME.match(_CAMEL.sub("_", name)):
        return "[masked secret]"
    return value(given, addresses=addresses)


def _is_pair(given: Any) -> bool:
    """An entry of a map column, as Arrow hands it out."""
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)
