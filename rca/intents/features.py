"""A template as numbers: the concepts it names, its words and pairs of words, pieces of words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import sparse

from rca.intents import phrases
from rca.intents.lexicon import CONCEPTS

BUCKETS = 1 << 12
SHARES = {"word": 1.0, "pair": 0.7, "piece": 0.35, "concept": 1.0, "first": 5.0, "also": 0.7}
_NAMED = [*CONCEPTS, *(f"first {one}" for one in phrases.INTENTS), *phrases.INTENTS, "nothing"]
_PLACE = {name: place for place, name in enumerate(_NAMED)}
WIDTH = len(_NAMED) + BUCKETS
_HOLE = re.compile(r"<\*>|<word>")
_JOINED = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z]{2,}\b)")
_TOKEN = re.compile(r"[a-z]{2,}")
_STEM = re.compile(r"(ing|ed|es|s|ly)$")
_SPACE = re.compile(r"[\s\\\"]+")


def read(text: str) -> str:
    """The text as it is looked at: without values, joined words apart, lower case."""
    return _SPACE.sub(" ", _JOINED.sub(" ", _HOLE.sub(" ", text))).lower().strip()


def matrix(texts: Sequence[str]) -> sparse.csr_matrix:
    """One row per text: concepts and phrases first, then hashed words; every kind scaled to its
    share."""
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


def hidden(rows: sparse.csr_matrix) -> tuple[sparse.csr_matrix, ...]:
    """`rows` again without phrases, and without concepts too: learned beside the whole ones, they
    make the words count, for software whose phrases nobody wrote down."""
    kept = np.ones((2, WIDTH))
    kept[0, len(CONCEPTS) : len(_NAMED)] = 0
    kept[1, : len(_NAMED)] = 0
    return tuple((rows @ sparse.diags(one)).tocsr() for one in kept)


def _row(text: str) -> dict[int, float]:
    words = [_STEM.sub("", word) if len(word) > 4 else word for word in _TOKEN.findall(text)]
    kinds = {
        "word": set(words),
        "pair": {f"{a} {b}" for a, b in pairwise(words)},
        "piece": {f"~{word[i : i + 4]}" for word in set(words) for i in range(len(word) - 3)},
    }
    row = _named(text)
    for kind, found in kinds.items():
        share = SHARES[kind] / max(len(found), 1) ** 0.5
        for one in found:
            column = len(_NAMED) + zlib.crc32(one.encode()) % BUCKETS
            row[column] = row.get(column, 0.0) + share
    return dict(sorted(row.items()))


def _named(text: str) -> dict[int, float]:
    """Columns of the concepts and phrases that occur."""
    concepts = [_PLACE[name] for name, concept in CONCEPTS.items() if concept.search(text)]
    row = {place: SHARES["concept"] / len(concepts) ** 0.5 for place in concepts}
    intents = phrases.said(text)
    row.update((_PLACE[intent], SHARES["also"]) for intent in intents)
    row[_PLACE[f"first {intents[0]}" if intents else "nothing"]] = SHARES["first"]
    return row
