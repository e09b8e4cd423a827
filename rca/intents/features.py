"""A template as numbers: its words, pairs of words and pieces of words, hashed; the concepts it
names."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import sparse

from rca.intents.lexicon import CONCEPTS, read

BUCKETS = 1 << 13
SHARES = {"word": 1.0, "pair": 1.0, "skip": 0.5, "piece": 0.8}
CONCEPT = 0.25  # what all concepts of a text together count
_PLACE = {name: place for place, name in enumerate(CONCEPTS)}
WIDTH = len(CONCEPTS) + BUCKETS
_TOKEN = re.compile(r"[a-z]+")
_ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ied", "ies", "ers", "ed", "es", "ly", "s")
_PIECES = (4, 5)  # characters of a piece


def matrix(texts: Sequence[str]) -> sparse.csr_matrix:
    """One row per text: concepts first, then what is hashed; every kind scaled to its share."""
    columns: list[int] = []
    values: list[float] = []
    ends = [0]
    for text in texts:
        row = _row(read(text))
        columns += row
        values += row.values()
        ends.append(len(columns))
    shape = (len(texts), WIDTH)
    return sparse.csr_matrix((values, columns, ends), shape=shape, dtype=np.float64)


def _row(text: str) -> dict[int, float]:
    row = _named(text)
    whole = _TOKEN.findall(text)
    words = [_stem(word) for word in whole]
    kinds = {
        "word": {_bucket(word) for word in words},
        "pair": {_bucket(f"{a} {b}") for a, b in pairwise(words)},
        "skip": {_bucket(f"{a} _ {b}") for a, b in zip(words, words[2:], strict=False)},
        "piece": {piece for word in set(whole) for piece in _pieces(word)},
    }
    for kind, found in kinds.items():
        share = SHARES[kind] / max(len(found), 1) ** 0.5
        for column in found:
            row[column] = row.get(column, 0.0) + share
    return dict(sorted(row.items()))


def _bucket(text: str) -> int:
    return len(CONCEPTS) + zlib.crc32(text.encode()) % BUCKETS


@lru_cache(maxsize=1 << 14)
def _pieces(word: str) -> tuple[int, ...]:
    return tuple(_bucket(piece) for piece in _cut(f"^{word}$"))


def _cut(word: str) -> Iterator[str]:
    for size in _PIECES:
        for low in range(len(word) - size + 1):
            yield f"{size}:{word[low : low + size]}"


@lru_cache(maxsize=1 << 14)
def _stem(word: str) -> str:
    """A word without its ending: `connections`, `connected` and `connecting` are one."""
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), "")
    stem = word.removesuffix(ending) + ("y" if ending in ("ied", "ies") else "")
    if len(stem) > 4 and stem[-1] == stem[-2] and stem[-1] not in "sl":
        stem = stem[:-1]
    return stem[:-1] if len(stem) > 4 and stem.endswith("e") else stem


def _named(text: str) -> dict[int, float]:
    """Columns of the concepts that occur."""
    found = [_PLACE[name] for name, concept in CONCEPTS.items() if concept.search(text)]
    return {place: CONCEPT / len(found) ** 0.5 for place in found}
