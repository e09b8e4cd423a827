"""What a diff only says in other words: types that nobody reads at run time, a turned condition."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rca.changes.diff import File, Line, squeezed

_IF = re.compile(
    r"^\s*\}?\s*(?P<jump>(?:return|continue|break|next)\b.*?)?\b(?P<word>if|unless)\b\s*(?P<condition>.+)$"
)
_FRAME = frozenset(["if", "else", "return", "?", ":", "(", ")", "{", "}", ";"])
_JUMP = re.compile(r"^\s*(return|continue|break|next|raise|throw)\b")
_NOT = {"==": "!=", "!=": "==", "===": "!==", "!==": "===", "is": "isnot", "isnot": "is"}


def turned(one: File) -> bool:
    """Whether all a file's change does is to ask a condition the other way round and to put its
    branches the other way round too: `if a: x else y` is `if not a: y else x`."""
    old, new = ([_condition(line) for line in lines] for lines in (one.removed, one.added))
    asked = [[found for found in side if found] for side in (old, new)]
    if len(asked[0]) != 1 or len(asked[1]) != 1:
        return False
    (was, leaves), (now, returns) = asked[0][0], asked[1][0]
    others = [
        line for line in (*one.removed, *one.added) if not _condition(line) and not _closes(line)
    ]
    if was == now and leaves == returns and not others:
        return True
    if _opposite(was) != now or any(not _bare_jump(line) for line in others):
        return False
    before, after = (_jumps(one, sign) for sign in "-+")
    swapped = len(before) == 2 and before == after[::-1]
    return swapped or leaves != (returns or any(map(_bare_jump, others)))


def folded(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether an `if` with two outcomes only became `a ? x : y`, or the other way round."""
    if not any({"?"} <= set(a) and "if" in b and "?" not in b for a, b in ((old, new), (new, old))):
        return False
    return [x for x in old if x not in _FRAME] == [x for x in new if x not in _FRAME]


def _condition(line: Line) -> tuple[str, bool] | None:
    """What a line asks, `!` in front where it asks for the contrary, and whether it then leaves."""
    found = _IF.match(line.text)
    if not found:
        return None
    text = re.sub(r"\bis not\b", "isnot", found["condition"]).strip()
    text = re.sub(r"(\bthen|:|\{)\s*$", "", text).strip()
    text = re.sub(r"\)\s*(return|continue|break)\b[^()]*;?$", ")", text)
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    text = squeezed(re.sub(r"^not\b", "!", text))
    leaves = bool(found["jump"]) or bool(re.search(r"\)\s*(return|continue|break)\b", line.text))
    return (text if found["word"] == "if" else _opposite(text)), leaves


def _opposite(text: str) -> str:
    """The contrary of a condition without `and` and `or`; those are left, to differ from any."""
    if text.startswith("!") and not text.startswith("!="):
        return text[1:]
    found = re.match(r"^(.+?)(===|!==|==|!=|isnot|is(?=None|null|nil))(.+)$", text)
    if found and not re.search(r"&&|\|\|", text):
        return f"{found[1]}{_NOT[found[2]]}{found[3]}"
    return f"!{text}"


def _closes(line: Line) -> bool:
    return line.text.strip() in {"}", "end", "{", "else:", "} else {", "else"}


def _bare_jump(line: Line) -> bool:
    return bool(re.match(r"^\s*(return|continue|break|next);?$", line.text))


def _jumps(one: File, sign: str) -> list[str]:
    lines: Sequence[Line] = [line for hunk in one.side(sign) for line in hunk]
    return [
        squeezed(line.text) for line in lines if _JUMP.match(line.text) and not _IF.match(line.text)
    ]
