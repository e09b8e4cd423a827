"""Prometheus' remote-read protocol: a protobuf request in, raw samples out, in columns.

Streamed XOR chunks are asked for; a server that serves only samples is read as well. Formats:
prometheus/prompb remote.proto and types.proto. Requests, and replies of samples, are compressed
with snappy; a stream is frames of (length, CRC-32C, message).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import requests

from ingest import xor
from ingest.batch import Batch, Place
from ingest.native_histograms import HistogramChunk
from ingest.series import Catalog
from ingest.web import Damaged, Web
from lake import UserError

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "Accept-Encoding": "snappy",
    "X-Prometheus-Remote-Read-Version": "0.1.0",
}
_MATCH = re.compile(r'\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*,?')
_KINDS = {"=": 0, "!=": 1, "=~": 2, "!~": 3}
_XOR, _HISTOGRAM = 1, 2
Bytes = npt.NDArray[np.uint8]
Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """One series: its labels (`__name__` among them), times in ms, values with their bits kept."""

    labels: Labels
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


class Reply(NamedTuple):
    """What a server answered: series' samples, and native histograms' chunks."""

    series: list[Series]
    histograms: list[HistogramChunk]


def pull(web: Web, selectors: Sequence[str], start: int, stop: int) -> Reply:
    """Samples with start ≤ time < stop (ms) of all selectors, each series once.

    Raises UserError when the server does not serve them.
    """
    queries = [_query(selector, start, stop - 1) for selector in selectors]
    body = b"".join(_text(1, query) for query in queries) + _field(2, 1) + _field(2, 0)
    found = web.ask("POST", "/api/v1/read", decoded, data=_snappy(body), headers=_HEADERS)
    return _inside(found, start, stop)


def matchers(selector: str) -> list[tuple[int, str, str]]:
    """(kind, label, value) of a PromQL selector. Raises UserError for what is none."""
    text = selector.strip()
    name, brace, rest = text.partition("{")
    found = [(0, "__name__", name.strip())] if name.strip() else []
    inner = rest.rstrip()
    if brace and not inner.endswith("}"):
        raise UserError(f"the selector {selector!r} has no closing brace.")
    inner, at = inner[:-1], 0
    while inner[at:].strip():
        one = _MATCH.match(inner, at)
        if not one:
            raise UserError(f"the selector {selector!r} cannot be read at {inner[at:]!r}.")
        value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], one[3])
        found.append((_KINDS[one[2]], one[1], value))
        at = one.end()
    if not found:
        raise UserError("a selector must name a metric or a label.")
    return found


def _query(selector: str, start: int, end: int) -> bytes:
    """A Query for the series of a selector between two times (ms, both included)."""
    found = _field(1, start) + _field(2, end)
    for kind, label, value in matchers(selector):
        found += _text(3, _field(1, kind) + _text(2, label) + _text(3, value))
    return found


def decoded(reply: requests.Response) -> Reply:
    """A reply in either form; Damaged where it is cut."""
    try:
        if "streamed" in reply.headers.get("Content-Type", ""):
            return _chunked(reply.content)
        return Reply(list(parse(_unsnappy(reply.content))), [])
    except (IndexError, ValueError, OSError, pa.ArrowException) as error:
        raise Damaged(f"remote-read reply: {error}") from error


def _inside(found: Reply, start: int, stop: int) -> Reply:
    """Chunks reach beyond what was asked for: the samples inside, of each series once."""
    series: dict[Labels, Series] = {}
    for one in found.series:
        inside = (one.times >= start) & (one.times < stop)
        times, values = one.times[inside], one.values[inside]
        known = series.get(one.labels)
        if known is not None:  # several selectors, or overlapping blocks
            times = np.concatenate([known.times, times])
            values = np.concatenate([known.values, values])
            times, first = np.unique(times, return_index=True)
            values = values[first]
        elif (np.diff(times) <= 0).any():
            times, first = np.unique(times, return_index=True)
            values = values[first]
        if len(times):
            series[one.labels] = Series(one.labels, times, values)
    return Reply(list(series.values()), found.histograms)


def batch(found: Sequence[Series], catalog: Catalog, place: Place) -> Batch:
    """Rows of `raw_samples` and `series`, in the order of the table."""
    described = catalog.frame([one.labels for one in found], place)
    order = described.sort("metric", "series")["row"].to_numpy()
    ranked = [found[place] for place in order]
    sizes = np.fromiter((len(one.times) for one in ranked), np.int64, len(ranked))
    index = np.repeat(order, sizes)
    times = np.concatenate([one.times for one in ranked]) if ranked else np.empty(0, np.int64)
    values = np.concatenate([one.values for one in ranked]) if ranked else np.empty(0, np.float64)
    texts = ("metric", "cluster", "namespace", "environment")
    samples = described.select(*texts, "series")[index]
    ts = pl.Series("ts", times * 1000).cast(pl.Datetime("us", "UTC"))
    samples = samples.with_columns(ts, pl.Series("value", values))
    seen = described.select("metric", "series", "labels", "type", "unit", "help").with_columns(
        first_seen=_ends(found, 0), last_seen=_ends(found, -1)
    )
    return Batch(samples, len(times), series=seen)


def _ends(found: Sequence[Series], place: int) -> pl.Series:
    times = [int(one.times[place]) * 1000 for one in found]
    return pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def _chunked(data: bytes) -> Reply:
    """The series of a stream of frames."""
    owners, chunks, histograms = list[Labels](), list[bytes](), list[HistogramChunk]()
    at = 0
    while at < len(data):
        size, at = _read_varint(data, at)
        at += 4  # the checksum: TCP and the frame's own lengths have been checked
        if at + size > len(data):
            raise ValueError("the last frame is cut")
        for number, (low, high) in _spans(data, at, at + size):
            if number == 1:
                _chunked_series(data, low, high, owners, chunks, histograms)
        at += size
    found = xor.decode(chunks)
    edges = np.concatenate([[0], np.cumsum(found.counts)])
    series, place = list[Series](), 0
    while place < len(owners):
        first = place
        while place < len(owners) and owners[place] is owners[first]:
            place += 1
        low, high = edges[first], edges[place]
        series.append(Series(owners[first], found.times[low:high], found.values[low:high]))
    return Reply(series, histograms)


def _chunked_series(
    data: bytes,
    at: int,
    end: int,
    owners: list[Labels],
    chunks: list[bytes],
    histograms: list[HistogramChunk],
) -> None:
    """A ChunkedSeries: labels (1), then chunks (2) of times, type (3) and data (4)."""
    pairs: list[tuple[str, str]] = []
    labels: Labels = ()
    for number, (low, high) in _spans(data, at, end):
        if number == 1:
            pairs.append(_label(data, low, high))
            continue
        labels = labels or tuple(pairs)
        kind, start, stop = _chunk(data, low, high)
        if kind == _XOR:
            owners.append(labels)
            chunks.append(data[start:stop])
        else:
            histograms.append(HistogramChunk(labels, kind, data[start:stop]))


def _chunk(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Type of a chunk and where its data lies."""
    kind = start = stop = 0
    while at < end:
        key = data[at]
        value, at = _read_varint(data, at + 1)
        if key & 7 == 2:
            start, stop = at, at + value
            at = stop
        elif key >> 3 == 3:
            kind = value
    return kind, start, stop


def _label(data: bytes, at: int, end: int) -> tuple[str, str]:
    name = value = ""
    for number, (low, high) in _spans(data, at, end):
        text = data[low:high].decode()
        name, value = (text, value) if number == 1 else (name, text)
    return name, value


def _field(number: int, value: int) -> bytes:
    return bytes([number << 3]) + _varint(value)


def _text(number: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def parse(data: bytes) -> Iterator[Series]:
    """The series of a ReadResponse: results (1) of timeseries (1) of labels (1), samples (2)."""
    for _, result in _spans(data, 0, len(data)):
        for _, (start, end) in _spans(data, *result):
            yield _series(data, start, end)


def _spans(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(field number, where it lies) of each length-delimited field."""
    while at < end:
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if key & 7 == 2:
            if at + value > end:
                raise ValueError("a field reaches beyond its message")
            yield key >> 3, (at, at + value)
            at += value


def _series(data: bytes, at: int, end: int) -> Series:
    """Labels come first, then samples until the end."""
    labels = []
    while at < end and data[at] == 0x0A:
        size, start = _read_varint(data, at + 1)
        at = start + size
        labels.append(_label(data, start, at))
    block = np.frombuffer(data, np.uint8, end - at, at)
    times, values = _samples(block)
    return Series(tuple(labels), times, values)


def _samples(block: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Times and values of consecutive Sample messages: tag, length, then (0x09 double)
    (0x10 varint). A value of zero is left out by the encoder."""
    if not len(block):
        return np.empty(0, np.int64), np.empty(0, np.float64)
    starts = _starts(block)
    body = starts + 2
    has_value = block[body] == 0x09
    values = np.zeros(len(starts), np.float64)
    eight = body[has_value][:, None] + np.arange(1, 9)
    values[has_value] = np.ascontiguousarray(block[eight]).view("<f8")[:, 0]
    ends = starts + 2 + block[starts + 1]
    return _varints(block, np.where(has_value, body + 9, body) + 1, ends), values


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


def _varints(
    block: Bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    out = np.zeros(len(starts), np.int64)
    padded = np.concatenate([block, np.zeros(10, np.uint8)])
    for index in range(int((ends - starts).max())):
        inside = starts + index < ends
        part = (padded[starts + index] & 0x7F).astype(np.int64) << (7 * index)
        out |= np.where(inside, part, 0)
    return out


def _snappy(data: bytes) -> bytes:
    return bytes(pa.Codec("snappy").compress(data))


def _unsnappy(data: bytes) -> bytes:
    size, _ = _read_varint(data, 0)
    return bytes(pa.Codec("snappy").decompress(data, decompressed_size=size))
