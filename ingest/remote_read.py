"""Prometheus' remote-read protocol: a protobuf request in, raw samples out, in columns.

Streamed XOR chunks are asked for; a server that serves only samples is read as well. Formats:
prometheus/prompb remote.proto and types.proto. Requests, and replies of samples, are compressed
with snappy; a stream is frames of (length, CRC-32C, message).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import requests

from ingest import wire, xor
from ingest.batch import Batch, Place
from ingest.native_histograms import HistogramChunk
from ingest.selectors import matchers
from ingest.series import Catalog
from ingest.web import Damaged, Web
from lake import UserError

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "Accept-Encoding": "snappy",
    "X-Prometheus-Remote-Read-Version": "0.1.0",
}
_XOR = 1  # the type of a chunk of floats
_HISTOGRAMS = 4  # the field of native histograms in a series of samples
_TEXTS = ("metric", "cluster", "namespace", "environment")
Bytes = npt.NDArray[np.uint8]
Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """One series: its labels (`__name__` among them), times in ms, values with their bits kept."""

    labels: Labels
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


class Samples(NamedTuple):
    """Many series, one after the other: labels and number of samples of each; times in ms."""

    labels: list[Labels]
    counts: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @classmethod
    def of(cls, series: Sequence[Series]) -> Samples:
        """From single series; those without samples are left out."""
        some = [one for one in series if len(one.times)]
        return cls(
            [one.labels for one in some],
            np.fromiter((len(one.times) for one in some), np.int64, len(some)),
            np.concatenate([np.empty(0, np.int64), *(one.times for one in some)]),
            np.concatenate([np.empty(0, np.float64), *(one.values for one in some)]),
        )

    def each(self) -> Iterator[Series]:
        """The single series."""
        ends = np.cumsum(self.counts).tolist()
        for labels, low, high in zip(self.labels, [0, *ends], ends, strict=False):
            yield Series(labels, self.times[low:high], self.values[low:high])

    def inside(self, start: int, stop: int) -> Samples:
        """Those with start ≤ time < stop, in time order, each series once: chunks reach beyond
        what was asked for, blocks overlap, selectors name the same series."""
        firsts = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)
        later = np.diff(self.times, prepend=np.int64(-1)) > 0
        later[firsts[firsts < len(later)]] = True
        if not later.all() or len(set(self.labels)) < len(self.labels):
            return Samples.of(_merged(self.each(), start, stop))
        keep = (self.times >= start) & (self.times < stop)
        if keep.all():
            return self
        owner = np.repeat(np.arange(len(self.labels)), self.counts)
        counts = np.bincount(owner[keep], minlength=len(self.labels))
        some = np.flatnonzero(counts)
        return Samples(
            [self.labels[place] for place in some],
            counts[some],
            self.times[keep],
            self.values[keep],
        )


class Reply(NamedTuple):
    """What a server answered: series' samples, and native histograms' chunks."""

    samples: Samples
    histograms: list[HistogramChunk]


def pull(web: Web, selectors: Sequence[str], start: int, stop: int) -> Reply:
    """Samples with start ≤ time < stop (ms) of all selectors, each series once.

    Raises UserError when the server does not serve them.
    """
    queries = [_query(selector, start, stop - 1) for selector in selectors]
    asked = b"".join(wire.bytes_field(1, query) for query in queries)
    body = asked + wire.number_field(2, 1) + wire.number_field(2, 0)
    found = web.ask("POST", "/api/v1/read", decoded, data=_snappy(body), headers=_HEADERS)
    return found._replace(samples=found.samples.inside(start, stop))


def _query(selector: str, start: int, end: int) -> bytes:
    """A Query for the series of a selector between two times (ms, both included)."""
    found = wire.number_field(1, start) + wire.number_field(2, end)
    for kind, label, value in matchers(selector):
        named = wire.bytes_field(2, label) + wire.bytes_field(3, value)
        found += wire.bytes_field(3, wire.number_field(1, kind) + named)
    return found


def decoded(reply: requests.Response) -> Reply:
    """A reply in either form; Damaged where it is cut."""
    try:
        if "streamed" in reply.headers.get("Content-Type", ""):
            return _chunked(reply.content)
        return Reply(Samples.of(list(parse(_unsnappy(reply.content)))), [])
    except (IndexError, ValueError, OSError, pa.ArrowException) as error:
        raise Damaged(f"remote-read reply: {error}") from error


def _merged(found: Iterable[Series], start: int, stop: int) -> list[Series]:
    """Series by their labels, each in time order; of one instant the first sample stays."""
    series: dict[Labels, Series] = {}
    for one in found:
        inside = (one.times >= start) & (one.times < stop)
        times, values = one.times[inside], one.values[inside]
        known = series.get(one.labels)
        if known is not None:
            times = np.concatenate([known.times, times])
            values = np.concatenate([known.values, values])
        times, first = np.unique(times, return_index=True)
        series[one.labels] = Series(one.labels, times, values[first])
    return list(series.values())


def batch(found: Samples, catalog: Catalog, place: Place) -> Batch:
    """Rows of `raw_samples` and `series`, in the order of the table."""
    described = catalog.frame(found.labels, place)
    order = described.sort("metric", "series")["row"].to_numpy()
    firsts = np.concatenate([[0], np.cumsum(found.counts)]).astype(np.int64)
    sizes = found.counts[order]
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    take = np.arange(len(found.times)) + np.repeat(firsts[:-1][order] - before, sizes)
    samples = pl.DataFrame(
        [
            *(_repeated(described[name], order, sizes) for name in _TEXTS),
            pl.Series("series", np.repeat(described["series"].to_numpy()[order], sizes)),
            _moments(found.times[take]).alias("ts"),
            pl.Series("value", found.values[take]),
        ]
    )
    seen = described.select("metric", "series", "labels", "type", "unit", "help").with_columns(
        _moments(found.times[firsts[:-1]]).alias("first_seen"),
        _moments(found.times[firsts[1:] - 1]).alias("last_seen"),
    )
    return Batch(samples, len(found.times), series=seen, ordered=True)


def _repeated(
    texts: pl.Series, order: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> pl.Series:
    """A text of each series for each of its samples, as categories."""
    if texts.n_unique() < 2:
        return pl.repeat(texts.first(), int(sizes.sum()), dtype=pl.Categorical, eager=True).alias(
            texts.name
        )
    return texts.cast(pl.Categorical)[np.repeat(order, sizes)]


def _moments(times: npt.NDArray[np.int64]) -> pl.Series:
    return pl.Series(times * 1000).cast(pl.Datetime("us", "UTC"))


class _Frames(NamedTuple):
    """Chunks of a stream: (start, stop, type, series) each; and where a series' labels lie."""

    chunks: npt.NDArray[np.int64]
    series: npt.NDArray[np.int64]


def _chunked(data: bytes) -> Reply:
    """The series of a stream of frames."""
    _check(data)
    content = np.frombuffer(data, np.uint8)
    fast = xor.compiled()
    if fast:
        *places, sound = fast.frames(content)
        if not sound:
            raise ValueError("a frame is cut or damaged")
        found = _Frames(*places)
    else:
        found = _frames(data)
    names = [_labels(data[low:high]) for low, high in found.series.tolist()]
    plain = found.chunks[found.chunks[:, 2] == _XOR]
    samples = xor.decode(content, plain[:, 0], plain[:, 1])
    firsts = np.flatnonzero(np.diff(plain[:, 3], prepend=-1))
    counts = np.add.reduceat(samples.counts, firsts) if len(firsts) else samples.counts
    owners = [names[owner] for owner in plain[firsts, 3].tolist()]
    others = found.chunks[found.chunks[:, 2] != _XOR].tolist()
    histograms = [
        HistogramChunk(names[owner], kind, data[low:high]) for low, high, kind, owner in others
    ]
    return Reply(Samples(owners, counts, samples.times, samples.values), histograms)


def _check(data: bytes) -> None:
    """ValueError where a frame is cut, or is not what its checksum tells."""
    at = 0
    while at < len(data):
        size, at = wire.read_varint(data, at)
        at += 4
        if at + size > len(data):
            raise ValueError("the last frame is cut")
        if int.from_bytes(data[at - 4 : at], "big") != google_crc32c.value(data[at : at + size]):
            raise ValueError("a frame is not what its checksum tells")
        at += size


def _frames(data: bytes) -> _Frames:
    """What lies where in a stream of frames."""
    chunks, series = list[tuple[int, int, int, int]](), list[tuple[int, int]]()
    at = 0
    while at < len(data):
        size, at = wire.read_varint(data, at)
        at += 4
        for number, (low, high) in wire.fields(data, at, at + size):
            if number == 1:
                end = low
                for field, (start, stop) in wire.fields(data, low, high):
                    if field == 1:
                        end = stop
                    elif field == 2:
                        chunks.append((*_chunk(data, start, stop), len(series)))
                series.append((low, end))
        at += size
    return _Frames(
        np.array(chunks, np.int64).reshape(-1, 4), np.array(series, np.int64).reshape(-1, 2)
    )


def _chunk(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Where a chunk's data lies, and its type."""
    kind = start = stop = 0
    while at < end:
        key, at = wire.read_varint(data, at)
        value, at = wire.read_varint(data, at)
        if key & 7 == 2:
            start, stop = at, at + value
            at = stop
        elif key & 7:
            raise ValueError("a field of a form that chunks do not have")
        elif key >> 3 == 3:
            kind = value
        if at > end:
            raise ValueError("a chunk reaches beyond its series")
    return start, stop, kind


@lru_cache(maxsize=200_000)
def _labels(block: bytes) -> Labels:
    """The labels (field 1) at the head of a series; the same come window after window."""
    return tuple(_label(block, *place) for _, place in wire.fields(block, 0, len(block)))


def _label(data: bytes, at: int, end: int) -> tuple[str, str]:
    name = value = ""
    for number, (low, high) in wire.fields(data, at, end):
        text = data[low:high].decode()
        name, value = (text, value) if number == 1 else (name, text)
    return name, value


def parse(data: bytes) -> Iterator[Series]:
    """The series of a ReadResponse: results (1) of timeseries (1) of labels (1), samples (2)."""
    for _, result in wire.fields(data, 0, len(data)):
        for _, (start, end) in wire.fields(data, *result):
            yield _series(data, start, end)


def _series(data: bytes, at: int, end: int) -> Series:
    """Labels come first, then samples until the end."""
    labels = []
    while at < end and data[at] == 0x0A:
        size, start = wire.read_varint(data, at + 1)
        at = start + size
        labels.append(_label(data, start, at))
    if at > end:
        raise ValueError("a label reaches beyond its series")
    try:
        times, values = _samples(np.frombuffer(data, np.uint8, end - at, at))
    except (ValueError, IndexError):
        if any(number == _HISTOGRAMS for number, _ in wire.fields(data, at, end)):
            raise UserError(
                f"{dict(labels).get('__name__')} is a native histogram, which this server does not"
                " serve as chunks. Leave the metric out by `selectors`."
            ) from None
        raise
    return Series(tuple(labels), times, values)


def _samples(block: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Times and values of consecutive Sample messages: tag, length, then (0x09 double)
    (0x10 varint). A value of zero is left out by the encoder."""
    if not len(block):
        return np.empty(0, np.int64), np.empty(0, np.float64)
    starts = _starts(block)
    body, ends = starts + 2, starts + 2 + block[starts + 1]
    padded = np.concatenate([block, np.zeros(10, np.uint8)])
    has_value = (padded[body] == 0x09) & (ends > body)
    number = np.where(has_value, body + 9, body)
    sound = (block[starts] == 0x12) & (number <= ends) & (ends - number <= 11)
    sound &= ((padded[number] == 0x10) & (ends > number + 1)) | (number == ends)
    if not sound.all() or ends[-1] != len(block):
        raise ValueError("not a sample")
    values = np.zeros(len(starts), np.float64)
    eight = body[has_value][:, None] + np.arange(1, 9)
    values[has_value] = np.ascontiguousarray(block[eight]).view("<f8")[:, 0]
    return wire.varints(block, number + 1, ends), values


def _starts(block: Bytes) -> npt.NDArray[np.int64]:
    """Where each message begins, found by following all lengths at once (pointer doubling)."""
    size = len(block)
    if size % 18 == 0 and (block[1::18] == 16).all() and (block[::18] == 0x12).all():
        return np.arange(0, size, 18)
    step = np.full(size + 1, size, np.int64)
    step[: size - 1] = np.minimum(np.arange(size - 1) + 2 + block[1:], size)
    found = np.zeros(1, np.int64)
    while True:
        more = step[found]
        if more[0] >= size:
            break
        found = np.concatenate([found, more[more < size]])
        step = step[step]
    return np.sort(found)


def _snappy(data: bytes) -> bytes:
    return bytes(pa.Codec("snappy").compress(data))


def _unsnappy(data: bytes) -> bytes:
    size, _ = wire.read_varint(data, 0)
    if size > len(data) * 64:  # more than snappy can hold
        raise ValueError("a length that cannot be")
    return bytes(pa.Codec("snappy").decompress(data, decompressed_size=size))
