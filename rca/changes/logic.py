"""What a diff does to what code decides and computes: said only where a line says another thing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from rca.changes.code import GUARD
from rca.changes.diff import File, only_renamed, tokens
from rca.changes.same import folded, turned

CODE = frozenset([  # endings of files that decide
    "py", "rb", "go", "java", "kt", "scala", "groovy", "js", "jsx", "mjs", "cjs", "ts", "tsx",
    "vue", "cs", "fs", "php", "rs", "ex", "exs", "erl", "c", "cc", "cpp", "h", "swift", "dart",
    "lua", "sh", "sql",
])  # fmt: skip
MANY = 300  # lines of a file that are held against each other
ALIKE = 0.6  # of its tokens are the same: the same line, changed
_SAFE = re.compile(
    r"\?\.|\bis \{|&\.|\?\?|\?:|(?i:orelse|getordefault|unwrap_or|is_?empty\(\))"
)  # asks in one word
_TURNS = re.compile(r"^\s*(for|foreach|while)\b|\.(each|forEach)\b")
_GATHERS = re.compile(
    r"(?i)\b(sum|reduce|fold\w*|map|filter|select|where|count|any|all|collect|to_?list|join|inject|flat_?map)\s*[({]|\bfor\b.+\bin\b.+[\])}]"
)
_GATHERED = frozenset(["+", "+=", "++", "in", "true", "false", "break", "continue", "not", "!"])
_ASKED = frozenset([
    "==", "!=", "===", "!==", "is", "not", "!", "none", "null", "nil", "undefined", "?", "??",
    "&&", "and", "0",
])  # fmt: skip
_SAYS = {"then": "await", "case": "==", "when": "=="}  # other words for the same
_IMPORT = re.compile(
    r"\s*(import|from [\w.]+ import|using(?! var)|use|package|require(_once)?|#include)\b(?! *\()"
)
_QUOTES = ('"', "'", "`")
_MEANING = frozenset([
    "<", ">", "<=", ">=", "==", "!=", "===", "!==", "+", "-", "*", "/", "%", "&&", "||", "!",
    "&", "|", "^", "??", "and", "or", "not", "is", "true", "false", "none", "null", "nil",
    "undefined", "break", "continue", "await", "async", "in", "return", "raise", "throw",
    "panic", "++", "--", "+=", "-=", "*=", "/=", "?", "unless",
])  # fmt: skip
_NOTHING = re.compile(
    r"""\breturn\s*\(?(\[\]|\{\}|\(\)|(\w+[.\s])*(\w*(list|dict|set|map|array|collections?|optional)\w*)(\.\w+)?(<[^>]*>)?(\{\}|\(\))|""|'')\)?\s*;?\s*$""",
    re.IGNORECASE,
)


def logic(files: Sequence[File]) -> str | None:
    """A condition, a computation or an outcome that is another one now.

    Line breaks, names, texts and the order of statements are no such thing.
    """
    for one in files:
        if one.ending not in CODE or one.is_config or not one.removed or not one.added:
            continue
        old, new = (
            tokens([line for line in lines if not _IMPORT.match(line.text)])
            for lines in (one.removed, one.added)
        )
        if only_renamed(old, new) or _alike(one, _meaning(old), _meaning(new)):
            continue
        if turned(one) or folded(old, new):
            continue
        if _numbers(old) != _numbers(new) and _named_number(files, old, new):
            continue
        line = _sharply(one)
        if line:
            return line[:80]
    return None


def emptied(files: Sequence[File]) -> str | None:
    """Nothing returned where something was."""
    for one in files:
        old, new = (
            [line.text.strip() for line in lines if re.search(r"\breturn\b", line.text)]
            for lines in (one.removed, one.added)
        )
        come = [text for text in new if _NOTHING.search(text)]
        if len(old) >= len(new) and len(come) > sum(bool(_NOTHING.search(text)) for text in old):
            return come[0][:80]
    return None


def _sharply(one: File) -> str | None:
    """A line that says another thing in nearly the same words. What was written anew is left: that
    it computes the same in another way is then as likely."""
    old, new = (
        [(line, words, _meaning(words)) for line in side[:MANY] for words in [tokens([line])]]
        for side in (one.removed, one.added)
    )
    for now, words, means in new:
        for was, before, meant in old:
            if meant == means or not _near(before, words):
                continue
            if not _alike(File(one.path, (), (), (now,), (was,)), meant, means):
                return now.text.strip()
    return None


def _near(old: list[str], new: list[str]) -> bool:
    """Whether a line is another line, changed."""
    shared = sum((Counter(old) & Counter(new)).values())
    if 2 * shared < ALIKE * len(old + new):
        return False
    return SequenceMatcher(None, old, new, autojunk=False).ratio() >= ALIKE


def _alike(one: File, old: Counter[str], new: Counter[str]) -> bool:
    """Whether both sides mean the same, but for words that their way of saying it needs: to pass
    an error on, to ask for nothing, to gather in a loop or without one."""
    needless = {"?"} if one.ending == "rs" else set[str]()
    sides = (one.removed, one.added)
    asks, safe, turns, gathers = (
        [sum(bool(kind.search(line.text)) for line in side) for side in sides]
        for kind in (GUARD, _SAFE, _TURNS, _GATHERS)
    )
    if asks[1] > asks[0] or (asks[1] == asks[0] and safe[0] != safe[1]):
        needless |= _ASKED
    if (turns[0] and not turns[1] and gathers[1]) or (turns[1] and not turns[0] and gathers[0]):
        needless |= _GATHERED
        old, new = (
            Counter({word: n for word, n in side.items() if not re.fullmatch(r"0(\.0)?\w?", word)})
            for side in (old, new)
        )
    left = [
        {word: count for word, count in side.items() if word not in needless} for side in (old, new)
    ]
    return left[0] == left[1]


def _meaning(found: Sequence[str]) -> Counter[str]:
    beside = zip(found, ["", *found][:-1], [*found, ""][1:], strict=True)
    kept = Counter(
        _SAYS.get(one, one.lower())
        for one, before, after in beside
        if _means(one, before) and not (one in {"%", "+", "/"} and _text_beside(before, after))
    )
    kept.pop("return", None)
    kept["in"] -= min(kept["in"], found.count("for"))
    return +kept


def _means(one: str, before: str) -> bool:
    if one in _SAYS:
        return one != "then" or before == "."
    return one.lower() in _MEANING or one[:1].isdigit()


def _text_beside(before: str, after: str) -> bool:
    return any(one.strip("rbfu")[:1] in _QUOTES for one in (before, after) if one)


def _numbers(found: Sequence[str]) -> Counter[str]:
    return Counter(one for one in found if one[:1].isdigit())


def _named_number(files: Sequence[File], old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether a number only moved to a name, in another file of the diff."""
    come = Counter(tokens([line for one in files for line in one.added]))
    gone = _numbers(old) - _numbers(new)
    return bool(gone) and all(come[number] >= count for number, count in gone.items())
