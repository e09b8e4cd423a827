"""Prometheus' XOR chunks, decoded in columns: sample after sample, all chunks at once.

Format: prometheus/tsdb/docs/format/chunks.md (after Gorilla, Pelkonen et al., VLDB 2015). With
numba installed (`rootlake[fast]`) a compiled loop does the same, chunk by chunk.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_PAD = 32  # bytes after the last chunk, so that a word can be read anywhere
# by the first four bits of a timestamp's code: how many of them are prefix, how many bits follow
_PREFIX = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4] * 2, np.uint64)
_BITS = np.array([0] * 8 + [14] * 4 + [17] * 2 + [20, 64], np.uint64)
_ONE, _63, _64 = np.uint64(1), np.uint64(63), np.uint64(64)


class Decoded(NamedTuple):
    """Samples of all chunks, one chunk after the other: `counts` of each, times in ms, values'
    bits kept."""

    counts: Longs
    times: Longs
    values: npt.NDArray[np.float64]


def decode(content: Bytes, starts: Longs, ends: Longs) -> Decoded:
    """The samples of the XOR chunks that lie at start ≤ byte < end of some content.

    Raises ValueError for a chunk that ends too early.
    """
    if not len(starts):
        return Decoded(starts, np.empty(0, np.int64), np.empty(0, np.float64))
    if (ends - starts).min() < 2:
        raise ValueError("a chunk without its count")
    if ends.max() + _PAD > len(content):
        content = np.concatenate([content, np.zeros(_PAD, np.uint8)])
    counts = content[starts].astype(np.int64) * 256 + content[starts + 1]
    if (counts > (ends - starts) * 8).any():
        raise ValueError("a chunk ends in the middle of a sample")
    first = np.concatenate([[0], np.cumsum(counts)])
    times, bits = np.empty(int(first[-1]), np.int64), np.empty(int(first[-1]), np.uint64)
    fast = compiled()
    if fast:
        sound = fast.decode(content, starts, ends * 8, counts, first, times, bits)
    else:
        sound = _Lockstep(content, starts).run(counts, first, times, bits, ends * 8)
    if not sound:
        raise ValueError("a chunk ends in the middle of a sample")
    return Decoded(counts, times, bits.view(np.float64))


class _Lockstep:
    """All chunks decoded together: the i-th sample of each in one step."""

    def __init__(self, content: Bytes, starts: Longs) -> None:
        self.content = content
        shifts = range(8)
        words = np.zeros(len(content) - 8, np.uint64)
        for place in shifts:
            words |= content[place : len(words) + place].astype(np.uint64) << np.uint64(
                56 - 8 * place
            )
        self.words = words  # the big-endian word at every byte
        self.sound = True
        self.at = (starts + 2) * 8

    def run(self, counts: Longs, first: Longs, times: Longs, bits: Words, ends: Longs) -> bool:
        """Fill times and bits; False where a chunk was too short."""
        order = np.argsort(-counts, kind="stable")
        counts, place, at, ends = counts[order], first[:-1][order], self.at[order], ends[order]
        size = int(np.count_nonzero(counts))
        time, value = np.zeros(size, np.int64), np.zeros(size, np.uint64)
        delta = np.zeros(size, np.int64)
        leading, trailing = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
        counts, place, at, ends = counts[:size], place[:size], at[:size].copy(), ends[:size]
        for step in range(int(counts[0]) if size else 0):
            size = int(np.searchsorted(-counts, -step, side="left"))
            at, time, value, delta = at[:size], time[:size], value[:size], delta[:size]
            leading, trailing = leading[:size], trailing[:size]
            if step == 0:
                number, at = self._varint(at)
                time = (number >> _ONE).astype(np.int64) ^ -(number & _ONE).astype(np.int64)
                value, at = self._peek(at), at + 64
            else:
                if step == 1:
                    number, at = self._varint(at)
                    delta = number.astype(np.int64)
                else:
                    change, at = self._change(at)
                    delta = delta + change
                time = time + delta
                value, leading, trailing, at = self._value(value, leading, trailing, at)
            if not self.sound or (at > ends[:size]).any():
                return False
            times[place[:size] + step] = time
            bits[place[:size] + step] = value
        return True

    def _peek(self, at: Longs) -> Words:
        """The 64 bits from a bit position on."""
        byte, off = at >> 3, (at & 7).astype(np.uint64)
        byte = np.minimum(byte, len(self.words) - 1)
        rest = self.content[np.minimum(byte + 8, len(self.content) - 1)].astype(np.uint64)
        found: Words = (self.words[byte] << off) | (rest >> (np.uint64(8) - off))
        return found

    def _varint(self, at: Longs) -> tuple[Words, Longs]:
        """Whole bytes, low ones first; here a chunk is still at a byte's edge only by chance."""
        number = np.zeros(len(at), np.uint64)
        open_ = np.ones(len(at), bool)
        for place in range(10):
            byte = self._peek(at) >> np.uint64(56)
            part = (byte & np.uint64(127)) << np.uint64(7 * place)
            number |= np.where(open_, part, np.uint64(0))
            at = np.where(open_, at + 8, at)
            open_ &= byte >= 128
            if not open_.any():
                break
        return number, at

    def _change(self, at: Longs) -> tuple[Longs, Longs]:
        """The change of the time's delta."""
        word = self._peek(at)
        kind = (word >> np.uint64(60)).astype(np.int64)
        prefix, size = _PREFIX[kind], _BITS[kind]
        at = at + prefix.astype(np.int64)
        found = np.where(size > 0, (word << prefix) >> ((_64 - size) & _63), np.uint64(0))
        signed = found.astype(np.int64)
        half = np.int64(1) << (np.maximum(size, _ONE) - _ONE).astype(np.int64)
        wraps = (size > 0) & (size < 64) & (signed > half)
        signed = np.where(wraps, signed - half * 2, signed)
        long = size == 64
        if long.any():
            signed[long] = self._peek(at[long]).astype(np.int64)
        return signed, at + size.astype(np.int64)

    def _value(
        self, value: Words, leading: Words, trailing: Words, at: Longs
    ) -> tuple[Words, Words, Words, Longs]:
        """The next value: what changed in the last one's bits."""
        word = self._peek(at)
        changed = (word >> _63) == 1
        fresh = changed & (((word >> np.uint64(62)) & _ONE) == 1)
        told = (word >> np.uint64(57)) & np.uint64(31)
        size = (word >> np.uint64(51)) & _63
        size = np.where(size == 0, _64, size)
        if (fresh & (told + size > _64)).any():
            self.sound = False  # more bits than a number has
        leading = np.where(fresh, told, leading)
        trailing = np.where(fresh, _64 - told - size, trailing)
        head = np.where(fresh, 13, np.where(changed, 2, 1))
        width = np.where(changed, _64 - leading - trailing, np.uint64(0))
        at = at + head
        found = self._peek(at) >> ((_64 - width) & _63)
        found = np.where(width > 0, found << (trailing & _63), np.uint64(0))
        return value ^ found, leading, trailing, at + width.astype(np.int64)


@cache
def compiled() -> ModuleType | None:
    """The compiled loops, where numba is installed."""
    try:
        return import_module("ingest.xor_compiled")
    except ImportError:
        return None
