"""Prometheus' query API, for servers without remote-read: range selectors give raw samples.

A range selector holds both its edges before Prometheus 3 and only the later one since, so a
stretch is asked for a millisecond wider and cut here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import requests

from ingest.batch import Place
from ingest.remote_read import Reply, Samples, Series
from ingest.series import Catalog
from ingest.web import Damaged, Overloaded, Refused, Web
from ingest.window import Stretch
from lake import UserError

_FAR = 253_402_300_800.0  # seconds: the year 10,000


class _Series(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    histograms: list[Any] = []


class _Points(NamedTuple):
    """A series' samples."""

    metric: dict[str, str]
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    histograms: bool


class _Data(msgspec.Struct, rename={"kind": "resultType"}):
    result: list[_Series]
    kind: str = "matrix"


class _Reply(msgspec.Struct):
    data: _Data
    warnings: list[str] | None = None
    isPartial: bool = False  # noqa: N815 - as VictoriaMetrics calls it


class _Exemplar(msgspec.Struct):
    labels: dict[str, str]
    value: str
    timestamp: float


class _Exemplars(msgspec.Struct, rename="camel"):
    series_labels: dict[str, str]
    exemplars: list[_Exemplar]


class _ExemplarReply(msgspec.Struct):
    data: list[_Exemplars] | None = None


def pull(web: Web, selectors: Sequence[str], start: int, stop: int) -> Reply:
    """Samples with start ≤ time < stop (ms) of all selectors, each series once."""
    found: dict[tuple[tuple[str, str], ...], Series] = {}
    for selector in selectors:
        asked = {
            "query": f"{selector}[{stop - start}ms]",
            "time": f"{(stop - 1) / 1000:.3f}",
            "partial_response": "false",  # Thanos: all or an error
        }
        try:
            reply = web.ask("POST", "/api/v1/query", _decoded, data=asked)
        except Refused as error:
            if error.status == 422:  # more samples than the server loads for one question
                raise Overloaded(str(error)) from error
            raise
        for one in reply:
            if one.histograms:
                raise UserError(
                    f"{web.url}: {one.metric.get('__name__')} is a native histogram; these are"
                    " pulled by remote-read only, which this server does not offer. Leave the"
                    " metric out by `selectors`."
                )
            labels = tuple(sorted(one.metric.items()))
            found.setdefault(labels, _inside(labels, one, start, stop))
    return Reply(Samples.of(list(found.values())), [])


def _inside(labels: tuple[tuple[str, str], ...], found: _Points, start: int, stop: int) -> Series:
    inside = (found.times >= start) & (found.times < stop)
    return Series(labels, found.times[inside], found.values[inside])


def _decoded(reply: requests.Response) -> list[_Points]:
    return decode(reply.content)


def decode(content: bytes) -> list[_Points]:
    """The series of a reply. Damaged for what is cut, or told to be a part of the whole."""
    try:
        found = msgspec.json.decode(content, type=_Reply)
        points = [_points(one) for one in found.data.result]
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from error
    if found.isPartial or found.warnings:
        raise Damaged(f"a part of the whole: {'; '.join(found.warnings or ['no reason given'])}")
    return points


def _points(one: _Series) -> _Points:
    """Times in ms and values. ValueError for what is no number, or no time."""
    seconds = np.array([at for at, _ in one.values], np.float64)
    if (np.abs(seconds) > _FAR).any():
        raise ValueError("a time that no calendar holds")
    texts = [text for _, text in one.values]
    values = np.array(texts, "U" if texts else "U1").astype(np.float64)
    times = np.round(seconds * 1000).astype(np.int64)
    return _Points(one.metric, times, values, bool(one.histograms))


def exemplars(
    web: Web, selectors: Sequence[str], stretch: Stretch, catalog: Catalog, place: Place
) -> pl.DataFrame | None:
    """Exemplars of a stretch as rows of `exemplars` without their day; None where there is none."""
    rows = []
    for selector in selectors:
        asked = {
            "query": selector,
            "start": f"{stretch.low.timestamp():.3f}",
            "end": f"{stretch.high.timestamp():.3f}",
        }
        reply = web.ask("GET", "/api/v1/query_exemplars", _exemplars, params=asked)
        for group in reply:
            about = catalog.row(tuple(sorted(group.series_labels.items())), place)
            own = {name: about[name] for name in ("metric", "series", *Place.__dataclass_fields__)}
            rows += [{**own, **_exemplar(one)} for one in group.exemplars]
    if not rows:
        return None
    texts = ("metric", "trace_id", "span_id", "cluster", "namespace", "environment")
    schema = {"ts": pl.Int64, "series": pl.Int64, "value": pl.Float64}
    frame = pl.DataFrame(rows, schema={**schema, **dict.fromkeys(texts, pl.String)})
    return frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


def _exemplar(one: _Exemplar) -> dict[str, Any]:
    labels = one.labels
    return {
        "ts": round(one.timestamp * 1e6),
        "value": float(one.value),
        "trace_id": labels.get("trace_id") or labels.get("traceID"),
        "span_id": labels.get("span_id") or labels.get("spanID"),
    }


def _exemplars(reply: requests.Response) -> list[_Exemplars]:
    return decode_exemplars(reply.content)


def decode_exemplars(content: bytes) -> list[_Exemplars]:
    """The exemplars of a reply, by series. Damaged for what is cut or none."""
    try:
        found = msgspec.json.decode(content, type=_ExemplarReply).data or []
        for one in (one for group in found for one in group.exemplars):
            float(one.value)
            if abs(one.timestamp) > _FAR:
                raise ValueError("a time that no calendar holds")
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from error
    return found
