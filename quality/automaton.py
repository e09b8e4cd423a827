"""A regular expression as a table: one step per byte, alternatives tried in their order.

For the syntax that `quality.masks` uses, read as bytes: those of a character beyond ASCII are in
negated classes alone, and `\\b` and `\\B` are ASCII's. A state is the ordered list of places in the
expression that may go on (as in RE2), so of alternatives the first that matches wins and of a
repetition the longest, as in polars. A match is told with the step over the byte after it, which
`\\b` depends on.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

END = 256  # the sign after the last byte
WORD = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAMED = {"w": WORD, "t": frozenset(b"\t"), "n": frozenset(b"\n"), "r": frozenset(b"\r")}
_EVERY = frozenset(range(256))
_TIMES = re.compile(r"\{(\d+)(,?)(\d*)\}")
_MATCH = 0  # the place where the expression ends

Ints = NDArray[np.int64]
Place = tuple[str, Any, int]  # "take" bytes, or "look" for a word's edge, then the next place
#                               "fork" to several places in order; "match"


class Table(NamedTuple):
    """step[state, kind of byte] is twice the next state, and one more if a match ended before the
    byte; state 0 leads nowhere. `start` after a byte that is of no word, and one that is."""

    kinds: Ints  # of each byte, and of the end
    step: Ints
    start: Ints


def table(expression: str) -> Table:
    """The smallest table that finds what the expression finds."""
    places = _Reader(expression).places()
    kinds = _kinds(places)
    walk = _Walk(places)
    bytes_ = [int(np.argmax(kinds == kind)) for kind in range(kinds[END] + 1)]
    begins = walk.opened([len(places) - 1])
    start = [walk.state(begins, after_word=after) for after in (False, True)]
    rows: list[list[int]] = []
    while len(rows) < len(walk.states):
        rows.append([walk.stepped(len(rows), byte) for byte in bytes_])
    return _smallest(Table(kinds, np.array(rows), np.array(start)))


def together(tables: list[Table]) -> Table:
    """Several tables as one, a row of `start` for each."""
    every = np.column_stack([one.kinds for one in tables])
    _, first, kinds = np.unique(every, axis=0, return_index=True, return_inverse=True)
    steps, starts, states = [], [], 0
    for one in tables:
        step = one.step[:, one.kinds[first]]
        steps.append(np.where(step > 1, step + 2 * states, step))
        starts.append(one.start + states)
        states += len(step)
    return Table(kinds.reshape(-1), np.vstack(steps), np.array(starts))


def _kinds(places: list[Place]) -> Ints:
    """Bytes that no place tells apart are of one kind; the end is of the last."""
    sets = [WORD, *{place[1] for place in places if place[0] == "take"}]
    held = [tuple(byte in some for some in sets) for byte in range(END)]
    names = {row: number for number, row in enumerate(dict.fromkeys(held))}
    return np.array([*(names[row] for row in held), len(names)], np.int64)


def _smallest(found: Table) -> Table:
    """States that no text tells apart become one."""
    group = np.zeros(len(found.step), np.int64)
    while True:
        rows = np.column_stack([group, 2 * group[found.step >> 1] + (found.step & 1)])
        _, first, new = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(np.argsort(first))
        new = order[new.reshape(-1)]
        if new.max() == group.max():
            step = found.step[np.sort(first)]
            return Table(found.kinds, 2 * group[step >> 1] + (step & 1), group[found.start])
        group = new


class _Walk:
    """The states that texts lead to, in the order they were met."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.states: list[tuple[tuple[int, ...], bool]] = [((), False)]
        self.numbers = {self.states[0]: 0}

    def opened(self, places: list[int], edge: bool | None = None) -> tuple[int, ...]:
        """What places lead to without a byte, in order, up to a match; past looks for a word's
        edge only when it is known whether one is here."""
        found: dict[int, None] = {}
        seen, waiting = set(), places[::-1]
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            kind, what, then = self.places[at]
            if kind == "fork":
                waiting += what[::-1]
            elif kind == "look" and edge is not None:
                waiting += [then] if what == edge else []
            else:
                found[at] = None
            if kind == "match":
                break
        return tuple(found)

    def state(self, places: tuple[int, ...], *, after_word: bool) -> int:
        looks = any(self.places[at][0] == "look" for at in places)
        name = places, after_word and looks
        if name not in self.numbers:
            self.numbers[name] = len(self.states)
            self.states.append(name)
        return self.numbers[name]

    def stepped(self, state: int, byte: int) -> int:
        places, after_word = self.states[state]
        word = byte in WORD
        now = self.opened(list(places), word != after_word)
        matched = int(now[-1:] == (_MATCH,))
        takes = [self.places[at] for at in now if self.places[at][0] == "take"]
        nexts = dict.fromkeys(then for _, what, then in takes if byte in what)
        return 2 * self.state(self.opened(list(nexts)), after_word=word) + matched


class _Reader:
    """An expression's places; its first is the last made."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.made: list[Place] = [("match", None, _MATCH)]

    def places(self) -> list[Place]:
        first = self.laid(self.choice(), _MATCH)
        assert self.at == len(self.text), f"not understood: {self.text[self.at :]}"
        self.add("fork", [first])
        return self.made

    def add(self, kind: str, what: Any, then: int = _MATCH) -> int:
        self.made.append((kind, what, then))
        return len(self.made) - 1

    def eats(self, text: str) -> bool:
        found = self.text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def choice(self) -> tuple[str, Any]:
        ways = [self.row()]
        while self.eats("|"):
            ways.append(self.row())
        return "choice", ways

    def row(self) -> tuple[str, Any]:
        parts = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.repeated(self.atom()))
        return "row", parts

    def repeated(self, one: tuple[str, Any]) -> tuple[str, Any]:
        for sign, low, high in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self.eats(sign):
                return "many", (one, low, high)
        if times := _TIMES.match(self.text, self.at):
            self.at = times.end()
            low = int(times[1])
            return "many", (one, low, int(times[3]) if times[2] else low)
        return one

    def atom(self) -> tuple[str, Any]:
        if self.eats("(?:") or self.eats("(?-u:"):
            inner = self.choice()
            assert self.eats(")")
            return inner
        if self.eats(r"\b") or self.eats(r"\B"):
            return "look", self.text[self.at - 1] == "b"
        return "take", self.several() if self.eats("[") else self.sign()

    def sign(self) -> frozenset[int]:
        self.at += 1
        sign = self.text[self.at - 1]
        if sign != "\\":
            return frozenset({ord(sign)})
        self.at += 1
        name = self.text[self.at - 1]
        if name == "x":
            self.at += 2
            return frozenset({int(self.text[self.at - 2 : self.at], 16)})
        return _NAMED.get(name, frozenset({ord(name)}))

    def several(self) -> frozenset[int]:
        less, found = self.eats("^"), frozenset[int]()
        while not self.eats("]"):
            one = self.sign()
            if self.text[self.at] == "-" and self.text[self.at + 1] != "]":
                self.at += 1
                one = frozenset(range(min(one), max(self.sign()) + 1))
            found |= one
        return _EVERY - found if less else found

    def laid(self, tree: tuple[str, Any], then: int) -> int:
        """The first place of a tree that goes on to `then`."""
        kind, what = tree
        if kind == "choice":
            return self.add("fork", [self.laid(way, then) for way in what])
        if kind == "row":
            for part in reversed(what):
                then = self.laid(part, then)
            return then
        if kind == "many":
            one, low, high = what
            return self.looped(one, low, high, then)
        return self.add(kind, what, then)

    def looped(self, one: tuple[str, Any], low: int, high: int | None, then: int) -> int:
        if high is None:
            ways: list[int] = []
            loop = self.add("fork", ways)
            ways += [self.laid(one, loop), then]
            after = loop
        else:
            after = then
            for _ in range(high - low):
                after = self.add("fork", [self.laid(one, after), then])
        for _ in range(low):
            after = self.laid(one, after)
        return after
