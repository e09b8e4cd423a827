"""What the failure itself says, and which changes it points at: stack frames, names in messages,
calls to stores per request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rca.changes.diff import File, parse

NEAR = 5  # lines between a frame and a changed line that may still be one statement
_FRAME = re.compile(
    r"File \"(?P<py>[^\"]+)\", line (?P<pyline>\d+)(, in (?P<pyfun>\S+))?"
    r"|at (?P<jfun>[\w.$<>]+)\((?P<java>[\w$]+\.(java|kt|scala)):(?P<jline>\d+)\)"
    r"|at ((?P<jsfun>[\w.$<>]+) )?\(?(?P<js>[\w./@-]+\.[cm]?[jt]sx?):(?P<jsline>\d+)"
    r"|(?P<other>[\w./-]+\.(go|rb|php|cs|rs|py|ex)):?(line |\()?(?P<oline>\d+)"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{4,}")
_COMMON = frozenset(
    [
        "error",
        "errors",
        "exception",
        "failed",
        "failure",
        "timeout",
        "request",
        "response",
        "value",
        "index",
        "object",
        "null",
        "undefined",
        "cannot",
        "could",
        "invalid",
        "missing",
        "unknown",
        "expected",
        "argument",
        "attribute",
        "column",
        "table",
        "relation",
        "function",
        "method",
        "class",
        "import",
        "module",
        "package",
        "connection",
        "database",
        "server",
        "client",
        "service",
        "string",
        "number",
        "false",
        "return",
        "while",
        "retry",
        "query",
        "select",
        "where",
        "order",
        "orders",
        "state",
        "status",
        "message",
        "exist",
        "exists",
        "exhausted",
        "property",
        "reading",
        "reference",
        "typeerror",
        "keyerror",
        "attributeerror",
        "valueerror",
        "runtimeerror",
        "nullpointerexception",
        "traceback",
        "recent",
    ]
)


class Frame(NamedTuple):
    """A place a stack trace names; `function` and `line` where they are known."""

    file: str
    function: str
    line: int


def frames_in(text: str) -> list[Frame]:
    """The places a written stack trace names, of any of ten languages."""
    out = list[Frame]()
    for found in _FRAME.finditer(text):
        file = found["py"] or found["java"] or found["js"] or found["other"]
        line = found["pyline"] or found["jline"] or found["jsline"] or found["oline"]
        function = found["pyfun"] or found["jfun"] or found["jsfun"] or ""
        out.append(Frame(file, function.rsplit(".", 1)[-1], int(line)))
    return out


def frames_of(stack: Iterable[Mapping[str, Any]] | None) -> list[Frame]:
    """The frames of an error's `stacktrace`, those of the application where it says which."""
    every = [one for one in stack or () if one]
    mine = [one for one in every if one.get("in_app")] or every
    return [
        Frame(
            str(one["file"] or ""),
            str(one["function"] or "").rsplit(".", 1)[-1],
            int(one["line"] or 0),
        )
        for one in mine
        if one.get("file") or one.get("function")
    ]


def crossed(diff: str | None, frames: Sequence[Frame]) -> str | None:
    """Where the stack goes through what a diff changed: a changed line, else a changed function,
    else a changed file; None where it does not."""
    best: tuple[int, str] = (0, "")
    for one in parse(diff or ""):
        for frame in frames:
            if not _same_file(one.path, frame.file):
                continue
            degree, where = _degree(one, frame)
            if degree > best[0]:
                best = (degree, where)
    return best[1] or None


def _same_file(path: str, file: str) -> bool:
    a, b = path.strip("./").split("/"), re.sub(r"\\", "/", file).strip("./").split("/")
    most = min(len(a), len(b), 2)
    return bool(file) and a[-1] == b[-1] and (most == 1 or a[-most:] == b[-most:])


def _degree(one: File, frame: Frame) -> tuple[int, str]:
    numbers = [line.number for line in (*one.added, *one.removed)]
    if frame.line and any(abs(frame.line - number) <= NEAR for number in numbers):
        return 3, f"{one.path}:{frame.line}"
    around = [*one.functions, *(line.text for hunk in one.hunks for line in hunk)]
    if frame.function and any(
        re.search(rf"\b{re.escape(frame.function)}\b", text) for text in around
    ):
        return 2, f"{frame.function} in {one.path}"
    return 1, one.path


def named(diff: str | None, words: str) -> str | None:
    """A name that the failure's own words hold and that the diff took out or put in."""
    said = {word.lower() for word in _NAME.findall(words)} - _COMMON
    if not said:
        return None
    for one in parse(diff or ""):
        old: set[str] = {word for line in one.removed for word in _NAME.findall(line.text)}
        new: set[str] = {word for line in one.added for word in _NAME.findall(line.text)}
        for word in sorted((old ^ new) if old and new else (old | new), key=len, reverse=True):
            if word.lower() in said and _telling(word):
                return word
    return None


def _telling(word: str) -> bool:
    """Whether a name is of a program: parts joined by _ or capitals, not a word of a sentence."""
    return "_" in word.strip("_") or bool(re.search(r"[a-z][A-Z]", word))
