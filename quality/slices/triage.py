"""Which traces of a slice are plainly healthy, told by a few passes over numbers.

Healthy: canonical ids, each span once, exactly one root, every parent in the trace, no loop,
times and durations that can be. No rule changes such a trace by itself, so the rules run over the
other rows, and over the healthy traces those name (`quality.slices.second`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from quality.rules.time_unit import DAY, FIRST
from quality.slices.decode import flat

Numbers = npt.NDArray[Any]
_DEEP = 6  # 2^6 levels: what is deeper is looked at closely
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64((1 << 28) - 1)


class Triage(NamedTuple):
    """Per row of a slice: whether it is healthy, its trace and span as numbers (0: not canonical),
    the lower half of its trace id, and the place of its parent (-1: none), which is right for
    healthy rows only. `linked`: rows whose links lead to a root. `short` and `padded` tell whether
    trace ids of 64 bits stand as 16 and as 32 digits."""

    healthy: Numbers
    trace: Numbers
    low: Numbers
    span: Numbers
    parent: Numbers
    linked: Numbers
    short: bool
    padded: bool


def triage(rows: pa.Table) -> Triage:
    """The rows of a decoded slice, judged."""
    whole, trace, low, short, padded = _traces(flat(rows, "trace_id"))
    spans, span = _ids(flat(rows, "span_id"), 16)
    links, link = _ids(flat(rows, "parent_span_id"), 16)
    rootless = np.asarray(flat(rows, "parent_span_id").is_valid().to_numpy(zero_copy_only=False))
    empty = pc.equal(flat(rows, "parent_span_id"), "").fill_null(True)
    root = ~rootless | empty.to_numpy(zero_copy_only=False)
    span, link = span[:, 0], np.where(root, np.uint64(0), link[:, 0])
    sound = spans & (span != 0) & (root | (links & (link != 0))) & timely(rows)
    if (tid := flat(rows, "tid")).null_count < len(tid):
        sound &= ~tid.is_valid().to_numpy(zero_copy_only=False)
    place = np.flatnonzero(whole)
    fine, parent, leads = _traced(trace[place], span[place], link[place], root[place], sound[place])
    healthy = np.zeros(rows.num_rows, bool)
    healthy[place] = fine
    linked = np.zeros(rows.num_rows, bool)
    linked[place] = leads
    above = np.full(rows.num_rows, -1, np.int32)
    above[place] = np.where(parent >= 0, place[parent], -1)
    trace, low = (np.where(whole, one, np.uint64(0)) for one in (trace, low))
    known = np.where(spans, span, np.uint64(0))
    return Triage(healthy, trace, low, known, above, linked, short, padded)


def number(high: Numbers, low: Numbers) -> Numbers:
    """A trace id as one number; two ids with one number are looked at closely, no more."""
    mixed: Numbers = (high ^ (low >> np.uint64(31))) * _ODD ^ low
    spread: Numbers = mixed ^ (mixed >> np.uint64(29))
    return spread


def numbers(ids: pa.Array, digits: int) -> Numbers:
    """Canonical ids as numbers; 0 for anything else."""
    good, words = _ids(ids, digits)
    found = number(words[:, 0], words[:, 1]) if digits == 32 else words[:, 0]
    return np.where(good, found, np.uint64(0))


def halves(ids: pa.Array) -> tuple[Numbers, Numbers]:
    """The lower halves of canonical trace ids (0: none), and which are no more than that."""
    good, words = _ids(ids, 32)
    return words[:, 1], good & (words[:, 0] == 0)


def _traces(ids: pa.Array) -> tuple[Numbers, Numbers, Numbers, bool, bool]:
    good, words = _ids(ids, 32)
    half, low = _ids(ids, 16) if not good.all() else (np.zeros(len(ids), bool), words[:, :1])
    high = np.where(good, words[:, 0], np.uint64(0))
    low = np.where(good, words[:, 1], low[:, 0])
    whole = (good | half) & ((high | low) != 0)
    padded = good & (high == 0) & whole
    return whole, number(high, low), low, bool((half & whole).any()), bool(padded.any())


def _ids(ids: pa.Array, digits: int) -> tuple[Numbers, Numbers]:
    """Which texts are canonical hex of so many digits, and all as 64-bit words (0 where not)."""
    lengths = pc.binary_length(ids).fill_null(0).to_numpy(zero_copy_only=False)
    good = lengths == digits
    if not len(ids) or not good.any():
        return good, np.zeros((len(ids), digits // 16), np.uint64)
    chosen = ids if good.all() else ids.filter(pa.array(good))
    offsets = np.frombuffer(chosen.buffers()[1], np.int32)
    begin = int(offsets[chosen.offset])
    text = np.frombuffer(chosen.buffers()[2], np.uint8, len(chosen) * digits, begin)
    nibbles = _NIBBLE[text].reshape(-1, digits)
    packed = (nibbles[:, 0::2] << 4) | nibbles[:, 1::2]
    words = np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
    if nibbles.max() > 15:
        fine = (nibbles < 16).all(axis=1)
        words[~fine] = 0
        good = good.copy()
        good[np.flatnonzero(good)[~fine]] = False
        words = words[fine]
    out = np.zeros((len(ids), digits // 16), np.uint64)
    out[good] = words
    return good, out


def timely(rows: pa.Table) -> Numbers:
    """Whether a row's times can be."""
    start, took = flat(rows, "start_ns"), flat(rows, "duration_ns")
    known = pc.and_(start.is_valid(), took.is_valid()).to_numpy(zero_copy_only=False)
    at, length = (one.fill_null(0).to_numpy() for one in (start, took))
    seen = flat(rows, "ingested_at").cast(pa.int64()).fill_null(0).to_numpy() * 1000 + DAY
    fine: Numbers = known & (at >= FIRST) & (at <= seen) & (length >= 0)
    return fine


def _traced(
    trace: Numbers, span: Numbers, link: Numbers, root: Numbers, sound: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """Whether each row's trace is healthy, the place of its parent (-1: none), and whether its
    links lead to a root."""
    count = len(trace)
    if not count:
        return np.zeros(0, bool), np.zeros(0, np.int64), np.zeros(0, bool)
    key, wanted = _key(trace, span), _key(trace, link)
    order = np.argsort(key, kind="stable")
    key, wanted, trace, span, link = (one[order] for one in (key, wanted, trace, span, link))
    root, sound = root[order], sound[order]
    at = np.minimum(np.searchsorted(key, wanted), count - 1)
    found = ~root & (span[at] == link) & (trace[at] == trace)
    bad = ~sound | ~(root | found)
    bad[1:] |= key[1:] == key[:-1]
    above = np.where(found, at, np.arange(count))
    far = above
    for _ in range(_DEEP):
        far = far[far]
    bad |= ~root[far]
    group = key & ~_LOW
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    ill = np.logical_or.reduceat(bad, first) | (np.add.reduceat(root.astype(np.int32), first) != 1)
    sizes = np.diff(np.append(first, count))
    healthy, parent = np.empty(count, bool), np.full(count, -1, np.int64)
    linked = np.empty(count, bool)
    linked[order] = found & root[far]
    healthy[order] = ~np.repeat(ill, sizes)
    parent[order] = np.where(found, order[at], -1)
    return healthy, parent, linked


def _key(trace: Numbers, span: Numbers) -> Numbers:
    """Orders rows by trace, so that a parent lies near its children."""
    mixed = (span * _ODD) >> np.uint64(36)
    return (trace & ~_LOW) | (mixed & _LOW)
