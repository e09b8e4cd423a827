"""Native histograms: Prometheus' histogram chunks into `raw_histograms`.

Format: prometheus/tsdb/chunkenc/histogram.go and varbit.go. Bucket counts are kept as the deltas
they are stored as.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from ingest.batch import REJECTED, Place
from ingest.series import Catalog

_SIZES = (0, 3, 6, 9, 12, 18, 25, 56, 64)  # bits of a number, by the ones before it
_STALE = 0x7FF0000000000002
_FAR = 253_402_300_800_000  # ms: the year 10,000
_NO_SPANS: dict[str, Any] = {"positive_spans": [], "negative_spans": []}  # of a stale marker
_INTEGER = 2  # the chunk type
_KINDS = {3: "native histograms of fractions (a rule's rates): the table holds whole counts"}
_SPANS = pl.List(pl.Struct({"offset": pl.Int32, "length": pl.Int32}))
_SCHEMA: dict[str, Any] = {
    "ts": pl.Datetime("us", "UTC"),
    "metric": pl.String,
    "series": pl.Int64,
    "count": pl.Float64,
    "sum": pl.Float64,
    "schema": pl.Int32,
    "zero_threshold": pl.Float64,
    "zero_count": pl.Float64,
    "positive_spans": _SPANS,
    "positive_deltas": pl.List(pl.Int64),
    "negative_spans": _SPANS,
    "negative_deltas": pl.List(pl.Int64),
    "cluster": pl.String,
    "namespace": pl.String,
    "environment": pl.String,
}


class HistogramChunk(NamedTuple):
    """A chunk of a series that holds histograms."""

    labels: tuple[tuple[str, str], ...]
    kind: int
    data: bytes


def rows(
    chunks: Sequence[HistogramChunk], start: int, stop: int, catalog: Catalog, place: Place
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `raw_histograms` with start ≤ time < stop (ms), and what could not be read."""
    found, refused = list[dict[str, Any]](), list[tuple[str, str]]()
    for chunk in chunks:
        about = catalog.row(chunk.labels, place)
        own = {name: about[name] for name in ("metric", "series", *Place.__dataclass_fields__)}
        if chunk.kind != _INTEGER:
            reason = _KINDS.get(chunk.kind, f"a chunk of type {chunk.kind}")
            refused.append((reason, f"{chunk.labels} {chunk.data.hex()}"))
            continue
        try:
            samples = decode(chunk.data)
        except (IndexError, ValueError, struct.error) as error:
            refused.append((f"not a histogram chunk: {error}", chunk.data.hex()))
            continue
        found += [{**own, **one} for one in samples if start <= one["ts"] < stop]
    frame = pl.DataFrame(found, schema={**_SCHEMA, "ts": pl.Int64})
    frame = frame.with_columns((pl.col("ts") * 1000).cast(pl.Datetime("us", "UTC")))
    return frame, pl.DataFrame(refused, schema=REJECTED, orient="row")


def decode(data: bytes) -> list[dict[str, Any]]:
    """The histograms of a chunk, `ts` in ms. Raises ValueError for one that ends too early."""
    bits = _Bits(data, 24)
    threshold = _zero_threshold(bits)
    schema = bits.signed()
    if abs(schema) > 1000:
        raise ValueError(f"the schema {schema}")
    positive, negative = _spans(bits), _spans(bits)
    sizes = [sum(one["length"] for one in spans) for spans in (positive, negative)]
    if sum(sizes) > bits.left:
        raise ValueError("more buckets than it has bits")
    layout: dict[str, Any] = {"schema": schema, "zero_threshold": threshold}
    layout |= {"positive_spans": positive, "negative_spans": negative}
    number = struct.unpack_from(">H", data)[0]
    out: list[dict[str, Any]] = []
    head, speed = [0, 0, 0], [0, 0, 0]  # time, count, zero count, and how they changed last
    total = _Xor()
    buckets, change = [0] * sum(sizes), [0] * sum(sizes)
    for place in range(number):
        if place == 0:
            head = [bits.signed(), bits.unsigned(), bits.unsigned()]
        else:
            moved = [bits.signed() for _ in head]
            speed = moved if place == 1 else [a + b for a, b in zip(speed, moved, strict=True)]
            head = [a + b for a, b in zip(head, speed, strict=True)]
        total.read(bits, first=place == 0)
        stale = total.value == _STALE
        if not stale:
            moved = [bits.signed() for _ in buckets]
            if place == 0:
                buckets = moved
            else:
                change = moved if place == 1 else _sum(change, moved)
                buckets = _sum(buckets, change)
        out.append(
            {
                **layout,
                "ts": head[0],
                "count": float(head[1]),
                "zero_count": float(head[2]),
                "sum": struct.unpack(">d", struct.pack(">Q", total.value))[0],
                "positive_deltas": [] if stale else buckets[: sizes[0]],
                "negative_deltas": [] if stale else buckets[sizes[0] :],
            }
            | (_NO_SPANS if stale else {})
        )
        _check(head, buckets)
    return out


def _check(head: Sequence[int], buckets: Sequence[int]) -> None:
    """ValueError for numbers that no sound chunk holds, and no column."""
    if abs(head[0]) > _FAR or min(head[1:]) < 0 or any(abs(one) >= 1 << 63 for one in buckets):
        raise ValueError("a number out of range")


def _sum(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _zero_threshold(bits: _Bits) -> float:
    code = bits.take(8)
    if code == 0:
        return 0.0
    if code == 255:
        return float(struct.unpack(">d", struct.pack(">Q", bits.take(64)))[0])
    return 2.0 ** (code - 244)


def _spans(bits: _Bits) -> list[dict[str, int]]:
    found = []
    for _ in range(bits.unsigned()):
        one = {"length": bits.unsigned(), "offset": bits.signed()}
        if not (0 <= one["length"] < 1 << 31 and abs(one["offset"]) < 1 << 31):
            raise ValueError("a span out of range")
        found.append({"offset": one["offset"], "length": one["length"]})
    return found


class _Bits:
    """A reader of single bits."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.left = len(data) * 8 - at

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self.left -= count
        if self.left < 0:
            raise ValueError("it ends too early")
        low, self.at = self.at, self.at + count
        word = int.from_bytes(self.data[low >> 3 : (self.at + 7) >> 3], "big")
        return (word >> (-self.at % 8)) & ((1 << count) - 1)

    def unsigned(self) -> int:
        """A number of varying length."""
        return self.take(self._size())

    def signed(self) -> int:
        """A signed number of varying length."""
        size = self._size()
        found = self.take(size)
        return found - (1 << size) if size and found > (1 << (size - 1)) else found

    def _size(self) -> int:
        ones = 0
        while ones < len(_SIZES) - 1 and self.take(1):
            ones += 1
        return _SIZES[ones]


class _Xor:
    """A float told by what changed in its bits."""

    def __init__(self) -> None:
        self.value = self.leading = self.trailing = 0

    def read(self, bits: _Bits, *, first: bool) -> None:
        """Go on to the next value."""
        if first:
            self.value = bits.take(64)
            return
        if not bits.take(1):
            return
        if bits.take(1):
            self.leading = bits.take(5)
            self.trailing = 64 - self.leading - (bits.take(6) or 64)
            if self.trailing < 0:
                raise ValueError("more bits than a number has")
        self.value ^= bits.take(64 - self.leading - self.trailing) << self.trailing
