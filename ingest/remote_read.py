"""Prometheus' remote-read protocol: a protobuf request in, raw samples out, in columns.

Formats: prometheus/prompb remote.proto and types.proto; the body is compressed with snappy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import requests

from ingest.batch import Batch, Place
from ingest.openmetrics import describe, series_rows
from lake import UserError

TIMEOUT = 300  # seconds
_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "Accept-Encoding": "snappy",
    "X-Prometheus-Remote-Read-Version": "0.1.0",
}
Bytes = npt.NDArray[np.uint8]


class Series(NamedTuple):
    """One series: its labels (`__name__` among them), times in ms, values with their bits kept."""

    labels: dict[str, str]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def pull(url: str, start: int, stop: int, about: dict[str, dict[str, str]], place: Place) -> Batch:
    """Samples with start ≤ time < stop (ms). Raises UserError when the server does not serve."""
    reply = requests.post(
        f"{url}/api/v1/read",
        data=_snappy(request(start, stop - 1)),
        headers=_HEADERS,
        timeout=TIMEOUT,
    )
    if reply.status_code != 200:
        raise UserError(
            f"{url}/api/v1/read answered {reply.status_code}: {reply.text.strip()[:200]}"
        )
    return batch(list(parse(_unsnappy(reply.content))), about, place)


def batch(found: list[Series], about: dict[str, dict[str, str]], place: Place) -> Batch:
    """Rows of `raw_samples` and `series`."""
    described = []
    for one in found:
        labels = {key: value for key, value in one.labels.items() if key != "__name__"}
        described.append(describe(one.labels.get("__name__", ""), labels, about, place))
    sizes = [len(one.times) for one in found]
    index = np.repeat(np.arange(len(found)), sizes)
    times = np.concatenate([one.times for one in found]) if found else np.empty(0, np.int64)
    values = np.concatenate([one.values for one in found]) if found else np.empty(0, np.float64)
    series = pl.DataFrame(
        described,
        schema_overrides={
            "unit": pl.String,
            "help": pl.String,
            "type": pl.String,
            "cluster": pl.String,
            "namespace": pl.String,
            "environment": pl.String,
        },
    )
    if not found:
        series = _nothing()
    place_columns = series.select("metric", "series", "cluster", "namespace", "environment")
    samples = place_columns[index] if found else place_columns
    ts = pl.Series("ts", times * 1000).cast(pl.Datetime("us", "UTC"))
    samples = samples.with_columns(ts, pl.Series("value", values))
    return Batch(samples, len(times), series=series_rows(samples, series))


def _nothing() -> pl.DataFrame:
    text = dict.fromkeys(("metric", "type", "unit", "help"), pl.String)
    place = dict.fromkeys(("cluster", "namespace", "environment"), pl.String)
    labels = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
    return pl.DataFrame(schema={**text, "series": pl.Int64, "labels": labels, **place})


def request(start: int, end: int) -> bytes:
    """A ReadRequest for every series between two times (ms, both included), as samples."""
    matcher = _field(1, 2) + _text(2, "__name__") + _text(3, ".+")  # type 2: regular expression
    query = _field(1, start) + _field(2, end) + _text(3, matcher)
    return _text(1, query)


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
    for _, result in _messages(data, 0, len(data)):
        for _, (start, end) in _spans(data, *result):
            yield _series(data, start, end)


def _messages(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    yield from _spans(data, at, end)


def _spans(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(field number, where it lies) of each length-delimited field."""
    while at < end:
        key, at = _read_varint(data, at)
        size, at = _read_varint(data, at)
        yield key >> 3, (at, at + size)
        at += size


def _series(data: bytes, at: int, end: int) -> Series:
    """Labels come first, then samples until the end."""
    labels: dict[str, str] = {}
    while at < end and data[at] == 0x0A:
        size, start = _read_varint(data, at + 1)
        at = start + size
        pair = [data[low:high].decode() for _, (low, high) in _spans(data, start, at)]
        labels[pair[0]] = pair[1] if len(pair) > 1 else ""
    block = np.frombuffer(data, np.uint8, end - at, at)
    times, values = _samples(block)
    return Series(labels, times, values)


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
