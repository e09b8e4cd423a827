"""Where the values of lines stand, found byte by byte; as `quality.masks` finds them.

python -m quality.values   # writes `values.npz` again, after a change to quality/masks.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from lake.workers import cores
from quality import automaton, masks

_TABLE = Path(__file__).with_name("values.npz")
_HOLE = b"\xff"  # stands for a value in a shape; in no UTF-8


class Read(NamedTuple):
    """The `shapes` met, the number of every line's in `codes`, and its values: `spans` up to
    `ends` (from and to, within the line that begins in `text` at an offset)."""

    shapes: pl.Series
    codes: Any
    ends: Any
    spans: Any
    text: Any
    offsets: Any


@cache
def compiled() -> ModuleType | None:
    """The compiled loops, where numba is installed."""
    try:
        return import_module("quality.values_compiled")
    except ImportError:
        return None


def odd(bodies: pl.Series) -> Any:
    """Lines that may say something else than what stands there: JSON, several lines, colours,
    spaces around, or too long."""
    text, offsets = bytes_of(bodies)
    begins, sizes = offsets[:-1], np.diff(offsets)
    found = sizes >= masks.LONGEST
    some = np.flatnonzero(sizes)
    found[some] |= _FIRST[text[begins[some]]] | _LAST[text[offsets[some + 1] - 1]]
    signs = np.flatnonzero(text[offsets[0] : offsets[-1]] < _BLANK) + offsets[0]
    signs = signs[_SIGNS[text[signs]]]
    found[np.searchsorted(offsets, signs, side="right") - 1] = True
    return np.flatnonzero(found)


def spoken(
    bodies: pl.Series, lines: Any, fields: tuple[tuple[str, ...], ...], kernel: ModuleType
) -> tuple[Any, pl.Series]:
    """Of some lines, by their number, those that are plain JSON objects, and what each says: the
    texts of three `fields`, of each the first that has one of its keys."""
    text, offsets = bytes_of(bodies)
    keys = [f'{key}":'.encode() for some in fields for key in some]
    plain, content, ends = kernel.spoken(
        text,
        offsets,
        lines,
        masks.LONGEST,
        np.frombuffer(b"".join(keys), np.uint8),
        np.cumsum([len(key) for key in keys]),
        np.repeat(np.arange(len(fields)), [len(some) for some in fields]),
    )
    buffers = pa.py_buffer(ends), pa.py_buffer(content)
    said = pl.Series(pa.LargeStringArray.from_buffers(len(lines), *buffers))
    return lines[plain], said.filter(pl.Series(plain))


def _bytes(content: bytes) -> Any:
    found = np.zeros(256, bool)
    found[list(content)] = True
    return found


_BLANK = 32
_SPACES = bytes(range(_BLANK + 1))
_SIGNS = _bytes(b"\x01\x02\x03\x04\n\x1b")
_FIRST = _bytes(_SPACES + b"{\xc2\xe1\xe2\xe3")  # a space beyond ASCII begins so
_LAST = _bytes(_SPACES + b"\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x9f\xa0\xa8\xa9\xaf")


def read(said: pl.Series, kernel: ModuleType, most: int) -> list[Read]:
    """Shapes and values of lines, of `most` lines each and one after the other, on all cores."""
    text, offsets = bytes_of(said)
    longest = int(np.diff(offsets).max(initial=0))
    parts = [offsets[low : low + most + 1] for low in range(0, max(len(said), 1), most)]
    with ThreadPoolExecutor(cores()) as threads:
        done = threads.map(lambda part: kernel.read(text, part, longest, *_settings()), parts)
        return [
            Read(_texts(shapes, ends), codes, stops, spans, text, part)
            for part, (codes, stops, spans, shapes, ends) in zip(parts, done, strict=True)
        ]


def _texts(shapes: Any, ends: Any) -> pl.Series:
    content, stops = shapes.tobytes(), ends.tolist()
    parts = [content[begin:end] for begin, end in pairwise(stops)]
    texts = [part.replace(_HOLE, b"<*>").decode() for part in parts]
    return pl.Series("shape", texts, pl.String)


def filled(found: Read, recipes: list[list[int | str]], kernel: ModuleType) -> pl.Series:
    """The parameters of every line by its shape's recipe: the number of a value, or a word."""
    words = list({part: None for recipe in recipes for part in recipe if isinstance(part, str)})
    number = {word: -1 - place for place, word in enumerate(words)}
    flat = [
        number[part] if isinstance(part, str) else part for recipe in recipes for part in recipe
    ]
    begins = _upto(np.array([len(recipe) for recipe in recipes], np.int64))
    lists = _upto(np.diff(begins)[found.codes])
    offsets, content = kernel.filled(
        found.text, found.offsets, found.ends, found.spans, found.codes, lists,
        np.array(flat, np.int64), begins, *bytes_of(pl.Series(words, dtype=pl.String)),
    )  # fmt: skip
    texts = pa.py_buffer(offsets), pa.py_buffer(content)
    values = pa.LargeStringArray.from_buffers(len(offsets) - 1, *texts)
    made = pa.LargeListArray.from_arrays(pa.array(lists), values)
    return pl.Series("parameters", made, pl.List(pl.String))


def _upto(counts: Any) -> Any:
    return np.concatenate([np.zeros(1, np.int64), counts.cumsum()])


def bytes_of(texts: pl.Series) -> tuple[Any, Any]:
    """The texts' bytes one after the other, and where each begins, and the end."""
    arrow = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, content = arrow.buffers()
    begins = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    return np.frombuffer(content or b"", np.uint8), begins


@cache
def _settings() -> tuple[Any, ...]:
    """What the kernel's `read` is told: how long a line may be, which bytes are of words, the
    fields that speak, and the tables."""
    names = [name.encode() for name in masks.SPEAKING]
    word = np.zeros(256, np.uint8)
    word[list(automaton.WORD)] = 1
    with np.load(_TABLE) as held:
        kinds, step, start = held["kinds"], held["step"].astype(np.uint32), held["start"]
    width = np.uint32(step.shape[1])
    rows = ((step >> 1) * width << 1) + (step & 1)
    return (
        masks.LONGEST, word, np.frombuffer(b"".join(names), np.uint8),
        np.cumsum([len(name) for name in names]),
        kinds.astype(np.uint8), rows.astype(np.uint32).reshape(-1),
        (start * width).astype(np.uint32),
    )  # fmt: skip


def made() -> automaton.Table:
    """The table of lines, and of those that were cut off."""
    return automaton.together([automaton.table(masks.expression(cut=cut)) for cut in (False, True)])


if __name__ == "__main__":
    kinds, step, start = made()
    np.savez_compressed(
        _TABLE, kinds=kinds.astype(np.uint8), step=step.astype(np.uint16), start=start
    )
